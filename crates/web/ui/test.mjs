// Runs the tests of test/ with node's own test runner, bundled as the script itself is. Called by tests/script.rs:
// node test.mjs <out>.

import { build } from "esbuild";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "node:test";
import { spec } from "node:test/reporters";

const out = process.argv[2];
const names = readdirSync("test").filter((name) => name.endsWith(".test.ts"));
await build({
  entryPoints: names.map((name) => join("test", name)),
  outdir: out,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  format: "esm",
  platform: "node",
  target: "es2022",
});
let failed = 0;
run({ files: names.map((name) => join(out, name.replace(/\.ts$/, ".mjs"))) })
  .on("test:fail", () => (failed += 1))
  .on("end", () => (process.exitCode = failed > 0 ? 1 : 0))
  .compose(new spec())
  .pipe(process.stdout);
