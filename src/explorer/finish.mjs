// Put the built page into the package, which ships it; refuse a page in which a mark of the Python side is lost.
import { readFileSync, writeFileSync } from "node:fs";

let page = readFileSync("dist/index.html", "utf8").replaceAll("\r\n", "\n");
// Behind what is shown meanwhile, and before the data: a file that is cut off in either still says so.
const script = /<script type="module"[\s\S]*?<\/script>\n?/.exec(page)[0];
page = page.replace(script, () => "").replace("<!--personascope-data-->", () => `${script.trim()}\n<!--personascope-data-->`);
for (const mark of ["<!--personascope-policy-->", "<!--personascope-data-->", "<title>personascope explorer</title>"]) {
  if (page.split(mark).length !== 2) throw new Error(`dist/index.html: ${mark} stands there ${page.split(mark).length - 1} times`);
}
if (/<(script|link)[^>]+(src|href)=/.test(page)) throw new Error("dist/index.html: loads a file, so it is not self-contained");
writeFileSync("../personascope/explorer/template.html", page);
