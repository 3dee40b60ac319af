// The device in Node, with Dawn's WebGPU. RELAX_TAPML_URL has the address of its server.
"use strict";

const { create, globals } = require("webgpu");
Object.assign(globalThis, globals);
Object.defineProperty(globalThis, "navigator", { value: { gpu: create([]) }, configurable: true });
const Socket = require("ws");
const tvmjs = require("@mlc-ai/web-runtime");
require("./device.js");

const url = new URL(process.env.RELAX_TAPML_URL);
const end = globalThis.relaxTapml.serve({
  tvmjs,
  key: url.pathname.split("/")[1],
  url: `ws://${url.host}${url.pathname}rpc`,
  Socket,
  ready: (adapter) => console.log(`running kernels on ${adapter}`),
  report: console.log,
  ended: () => setTimeout(() => process.exit(), 100),
});
process.on("uncaughtException", (error) => end(String(error.message || error)));
process.on("unhandledRejection", (reason) => end(String(reason)));
