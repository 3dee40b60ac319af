// The device: TVM's JavaScript RPC server, with every error of WebGPU made an error of the call
// that caused it. Runs in a page and in Node.
"use strict";

(function (root) {
  const FILTERS = ["validation", "out-of-memory", "internal"];

  // --- Errors -----------------------------------------------------------------------------------

  // The message of an error, without the WebGPU call it came from and the arrow below the source.
  function sentence(error) {
    const message = error.message.split(/\n+ - While /)[0];
    const text = message.replace(/^ *\^+ *$/gm, "").replace(/\s+/g, " ").trim();
    return error instanceof root.GPUOutOfMemoryError ? `out of memory: ${text}` : text;
  }

  // WebGPU does not report an invalid command to its caller, and its results are zeros. Error
  // scopes catch all errors since the last check.
  class ErrorScopes {
    constructor(device) {
      this.device = device;
      this.popped = [];
      this.open();
      // TVM's runtime destroys the device after an error of a new buffer: hide such errors from it.
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

    // Throw the errors since the last check, in the words of the browser.
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

  // The memory and table that a side module needs, from its section dylink.0.
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

  // Load kernels and compile their shaders, so that the adapter refuses an invalid one now.
  // Returns their names.
  async function loadKernels(inst, scopes, prefix, bytes) {
    const exported = await link(inst, bytes);
    const start = `__tvm_ffi_${prefix}`;
    const names = [...exported].filter((name) => name.startsWith(start));
    const kernels = names.map((name) => name.slice(start.length));
    if (!exported.has(`${prefix}__tvm_ffi__library_bin`)) return kernels; // no shader in it
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
    await scopes.check(); // throws the cause, where the failure has no details
    if (failure) throw failure;
    return kernels;
  }

  // --- The server -------------------------------------------------------------------------------

  // Serve RPC at `url` until the connection closes. Calls `ready` with the adapter, `report` with each
  // event, and `ended` once, with the reason.
  function serve({ tvmjs, url, key, Socket, ready, report, ended }) {
    let socket = null;
    let isOver = false;

    function end(cause) {
      if (isOver) return;
      isOver = true;
      // The C++ exception of TVM's runtime when its own memory is full.
      const reason = cause.includes("bad_alloc") ? `out of memory in WebAssembly: ${cause}` : cause;
      if (reason && socket && socket.readyState === 1) {
        socket.report(reason);
        socket.close();
      }
      ended(reason);
    }

    // TVM's server waits until the browser has sent the last 4 KiB; the browser queues data anyway.
    class QuickSocket extends Socket {
      constructor(...args) {
        // TVM's server reconnects after a close: that would be a connection to another session.
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
    // A browser whose memory is full loses the device without a reason: report how much it used.
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
        await scopes.check(); // also after a failure: it must not count against the next call
        if (failure) throw failure;
      };
      // WebGPU copies whole words; buffers are padded to words, which TVM's copy does not use.
      const copy = context.deviceCopyWithinGPU.bind(context);
      context.deviceCopyWithinGPU = (from, fromOffset, to, toOffset, size) =>
        copy(from, fromOffset, to, toOffset, Math.ceil(size / 4) * 4);
      // Returns the error: TVM's runtime cannot report that an asynchronous function failed.
      inst.registerAsyncServerFunc("relax_tapml.load_kernels", (prefix, bytes) =>
        loadKernels(inst, scopes, prefix, bytes).then(
          (names) => {
            report(`loaded ${names.join(", ")}`);
            return "";
          },
          (error) => {
            report(`not loaded: ${error.message || error}`);
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
