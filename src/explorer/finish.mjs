// Put the built page into the package, which ships it; refuse a page in which a mark of the Python side is lost.
import { readFileSync, writeFileSync } from "node:fs";

const page = readFileSync("dist/index.html", "utf8").replaceAll("\r\n", "\n");
for (const mark of ["<!--personascope-policy-->", "<!--personascope-data-->", "<title>personascope explorer</title>"]) {
  if (page.split(mark).length !== 2) throw new Error(`dist/index.html: ${mark} stands there ${page.split(mark).length - 1} times`);
}
if (/<(script|link)[^>]+(src|href)=/.test(page)) throw new Error("dist/index.html: loads a file, so it is not self-contained");
writeFileSync("../personascope/explorer/template.html", page);
