// The device: TVM's JavaScript RPC server, with every error of WebGPU made an error of the call
// that caused it. Runs in a page and in Node.
"use strict";

(function (root) {
  const FILTERS = ["validation", "out-of-memory", "internal"];

  // --- Errors -----------------------------------------------------------------------------------

  // An error without the call of WebGPU that it came from and the arrow below the line of source.
  function sentence(error) {
    const told = error.message.split(/\n+ - While /)[0];
    const text = told.replace(/^ *\^+ *$/gm, "").replace(/\s+/g, " ").trim();
    return error instanceof root.GPUOutOfMemoryError ? `out of memory: ${text}` : text;
  }

  // WebGPU reports an invalid command to nobody in particular and leaves zeros behind. Scopes catch
  // whatever happened since the last check.
  class ErrorScopes {
    constructor(device) {
      this.device = device;
      this.popped = [];
      this.open();
      // TVM's runtime looks for errors of new buffers itself, and destroys the device. It gets none.
      const create = device.createBuffer.bind(device);
      device.createBuffer = (descriptor) => {
        this.open();
        try {
          return create(descriptor);
        } finally {
          this.close();
        }
      };
    }

    open() {
      for (const filter of FILTERS) this.device.pushErrorScope(filter);
    }

    close() {
      for (const _ of FILTERS) this.popped.push(this.device.popErrorScope());
    }

    // Throw the errors since the last time, as the browser words them.
    async check() {
      this.close();
      const popped = this.popped;
      this.popped = [];
      this.open();
      const errors = (await Promise.all(popped)).filter((error) => error);
      if (errors.length) throw new Error(errors.map(sentence).join("; "));
    }
  }

  // --- Kernels ----------------------------------------------------------------------------------

  // What a side module needs in front of it, from its section dylink.0.
  function needs(module) {
    const section = WebAssembly.Module.customSections(module, "dylink.0")[0];
    const bytes = new Uint8Array(section);
    let at = 0;
    const number = () => {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = bytes[at++];
        value |= (byte & 127) << shift;
        if (byte < 128) return value;
      }
    };
    while (at < bytes.length) {
      const kind = bytes[at++];
      const size = number();
      if (kind === 1) {
        const [memory, alignment, table] = [number(), number(), number()];
        return { memory, alignment: 1 << alignment, table };
      }
      at += size;
    }
    throw new Error("the kernel has no section dylink.0: it is not a side module");
  }

  // Load a side module into a running instance, as a dynamic linker does. Returns its exports' names.
  async function link(inst, bytes) {
    const main = inst.lib.exports;
    const module = await WebAssembly.compile(bytes);
    const exported = new Set(WebAssembly.Module.exports(module).map((item) => item.name));
    const imports = WebAssembly.Module.imports(module);
    const given = ["memory", "__indirect_function_table"].concat(
      ["__stack_pointer", "__memory_base", "__table_base"]
    );
    const missing = imports
      .map((item) => item.name)
      .filter((name) => !given.includes(name) && !exported.has(name) && !(name in main));
    if (missing.length) {
      throw new Error(`the kernel needs ${missing.join(", ")}, which TVM's runtime here lacks`);
    }

    const { memory, alignment, table: entries } = needs(module);
    const table = main.__indirect_function_table;
    const allocated = main.TVMWasmAllocSpace(memory + alignment) >>> 0;
    const base = Math.ceil(allocated / alignment) * alignment;
    const linear = inst.lib.memory.memory;
    new Uint8Array(linear.buffer, base, memory).fill(0);
    const env = {
      memory: linear,
      __indirect_function_table: table,
      __stack_pointer: main.__stack_pointer,
      __memory_base: new WebAssembly.Global({ value: "i32" }, base),
      __table_base: new WebAssembly.Global({ value: "i32" }, table.grow(entries)),
    };
    const addresses = { "GOT.mem": {}, "GOT.func": {} };
    let own = {};
    for (const { module: from, name } of imports) {
      if (from in addresses) {
        addresses[from][name] = new WebAssembly.Global({ value: "i32", mutable: true }, 0);
      } else if (!(name in env)) {
        env[name] = name in main ? main[name] : (...args) => own[name](...args);
      }
    }
    const instance = await WebAssembly.instantiate(module, { env, ...addresses });
    own = instance.exports;
    for (const [name, slot] of Object.entries(addresses["GOT.mem"])) {
      slot.value = name in own ? own[name].value + base : main[name].value;
    }
    for (const [name, slot] of Object.entries(addresses["GOT.func"])) {
      slot.value = table.grow(1, name in own ? own[name] : main[name]);
    }
    if (own.__wasm_apply_data_relocs) own.__wasm_apply_data_relocs();
    if (own.__wasm_call_ctors) own.__wasm_call_ctors();
    return exported;
  }

  // Load kernels and compile their shaders, so that one which this adapter refuses is refused now.
  // Returns their names.
  async function loadKernels(inst, scopes, prefix, bytes) {
    const exported = await link(inst, bytes);
    const start = `__tvm_ffi_${prefix}`;
    const names = [...exported].filter((name) => name.startsWith(start));
    const told = names.map((name) => name.slice(start.length));
    if (!exported.has(`${prefix}__tvm_ffi__library_bin`)) return told; // no shader in it
    inst.beginScope();
    let compiling;
    try {
      const library = inst.detachFromCurrentScope(
        inst.getGlobalFunc("ffi.SystemLib")(prefix)
      );
      compiling = inst.asyncLoadWebGPUPipelines(library);
    } finally {
      inst.endScope();
    }
    let failure = null;
    await compiling.catch((error) => (failure = error));
    await scopes.check(); // says what is wrong with the shader, the failure only that it is
    if (failure) throw failure;
    return told;
  }

  // --- The server -------------------------------------------------------------------------------

  // Serve RPC at `url` until the connection closes. `ready` is told the adapter, `say` what
  // happens, and `ended` why it is over; once.
  function serve({ tvmjs, url, key, Socket, ready, say, ended }) {
    let socket = null;
    let isOver = false;

    function end(cause) {
      if (isOver) return;
      isOver = true;
      // How TVM's runtime, which is C++, says that its own memory is full.
      const reason = cause.includes("bad_alloc") ? `out of memory in WebAssembly: ${cause}` : cause;
      if (reason && socket && socket.readyState === 1) {
        socket.report(reason);
        socket.close();
      }
      ended(reason);
    }

    // TVM's server waits for the browser to send what it was given, 4 KiB at a time; the browser
    // queues it just as well.
    class QuickSocket extends Socket {
      constructor(...args) {
        // TVM's server connects again when it is closed: that would be somebody else's session.
        if (socket) throw new Error("a page has one connection");
        super(...args);
        socket = this;
        this.addEventListener("close", () => end(""));
      }
      get bufferedAmount() {
        return 0;
      }
      report(text) {
        super.send(text);
      }
    }
    root.WebSocket = QuickSocket;

    const requestDevice = root.GPUAdapter.prototype.requestDevice;
    let device = null;
    let adapter = null;
    let context = null;
    // A browser whose memory is full loses the device without saying so: tell how much it had.
    function lost(info) {
      const size = context ? Math.round(context.currAllocatedBytes / 1e6) : 0;
      end(`the WebGPU device is lost: ${info.message || info.reason} (${size} MB of buffers)`);
    }
    root.GPUAdapter.prototype.requestDevice = async function (descriptor) {
      adapter = this;
      device = await requestDevice.call(this, descriptor);
      device.lost.then(lost);
      device.addEventListener("uncapturederror", (event) => end(event.error.message));
      return device;
    };

    async function loaded(inst) {
      if (!device) throw new Error("there is no WebGPU adapter here");
      const scopes = new ErrorScopes(device);
      context = inst.lib.webGPUContext;
      const sync = context.sync.bind(context);
      context.sync = async () => {
        let failure = null;
        await sync().catch((error) => (failure = error));
        await scopes.check(); // also if it failed: the next call is not to blame
        if (failure) throw failure;
      };
      // WebGPU copies whole words; buffers are padded to them, which TVM's copy does not count on.
      const copy = context.deviceCopyWithinGPU.bind(context);
      context.deviceCopyWithinGPU = (from, fromOffset, to, toOffset, size) =>
        copy(from, fromOffset, to, toOffset, Math.ceil(size / 4) * 4);
      // Returns what is wrong: TVM's runtime cannot pass on that an asynchronous function failed.
      inst.registerAsyncServerFunc("relax_tapml.load_kernels", (prefix, bytes) =>
        loadKernels(inst, scopes, prefix, bytes).then(
          (names) => {
            say(`loaded ${names.join(", ")}`);
            return "";
          },
          (error) => {
            say(`refused: ${error.message || error}`);
            return String(error.message || error);
          }
        )
      );
      const { vendor, architecture, description } = adapter.info;
      ready(description || `${vendor} ${architecture}`);
    }

    const provider = () => tvmjs.createPolyfillWASI();
    new tvmjs.RPCServer(url, key, provider, () => {}, "", "cpu", undefined, (inst) =>
      loaded(inst).catch((error) => {
        end(String(error.message || error));
        throw error;
      })
    );
    return end;
  }

  root.relaxTapml = { serve };
})(globalThis);
