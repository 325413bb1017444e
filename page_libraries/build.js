// Bundle d3.js as one minified module, which begins with the version and the licence of each package in it.

import { readFileSync } from "node:fs";
import { build } from "esbuild";

const TARGET = "../aifs_tune/service/static/vendor/d3.js";
const options = { entryPoints: ["d3.js"], outfile: TARGET, bundle: true, format: "esm", minify: true, target: "es2022", metafile: true };
const read = (name, file) => readFileSync(`node_modules/${name}/${file}`, "utf8").trim();

const { metafile } = await build({ ...options, write: false });
const [{ inputs }] = Object.values(metafile.outputs);
const used = Object.entries(inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0).map(([path]) => path.match(/node_modules\/([^/]+)/)?.[1]);
const names = [...new Set(used.filter((name) => name !== undefined))].sort();
const versions = names.map((name) => `${name} ${JSON.parse(read(name, "package.json")).version}`);
const licences = [...new Set(names.map((name) => read(name, "LICENSE")))];
await build({ ...options, banner: { js: `/*!\n${[versions.join("\n"), ...licences].join("\n\n")}\n*/` } });
