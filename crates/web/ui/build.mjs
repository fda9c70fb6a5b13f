// Bundles src/ into the files that the server embeds: script, style and the small theme script, each plain and
// compressed, named by their content; and a list of them in Rust. Called by build.rs: node build.mjs <out>.

import { build } from "esbuild";
import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const out = process.argv[2];

// What is built: the name, where it starts, what it is.
const wanted = [
  { name: "surus", kind: "js", entry: "src/main.ts", type: "text/javascript; charset=utf-8", field: "SCRIPT" },
  { name: "theme", kind: "js", entry: "src/theme.ts", type: "text/javascript; charset=utf-8", field: "THEME" },
  { name: "surus", kind: "css", entry: "src/style.css", type: "text/css; charset=utf-8", field: "STYLE" },
];

mkdirSync(out, { recursive: true });
let list = "";
for (const { name, kind, entry, type, field } of wanted) {
  const result = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: kind === "js" ? "iife" : undefined,
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    // What is drawn inside a shadow root carries its style as text.
    loader: { ".shadow.css": "text", ".min.css": "text" },
    logLevel: "silent",
  }).catch((failed) => {
    const first = failed.errors?.[0];
    const at = first?.location ? `${first.location.file}:${first.location.line}: ` : "";
    console.error(first ? at + first.text : String(failed));
    process.exit(1);
  });
  const plain = Buffer.from(result.outputFiles[0].contents);
  const hash = createHash("sha256").update(plain).digest("hex").slice(0, 12);
  const file = `${name}.${kind}`;
  writeFileSync(join(out, file), plain);
  writeFileSync(join(out, `${file}.gz`), gzipSync(plain, { level: 9 }));
  list += `pub(super) static ${field}: Asset = Asset {
    path: "/static/${name}-${hash}.${kind}",
    content_type: "${type}",
    plain: include_bytes!("${file}"),
    gzip: include_bytes!("${file}.gz"),
};\n`;
}
writeFileSync(join(out, "assets.rs"), list);
