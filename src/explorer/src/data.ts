// The data of the page: parts that are unpacked when a view first asks for them. See personascope/explorer/pack.py.
import { useEffect, useState } from "preact/hooks";
import type { Index, Num, PartEntry } from "./types";

export const VERSION = 1;
const KINDS: Record<string, new (buffer: ArrayBuffer, offset: number, length: number) => Num> = {
  f4: Float32Array, f8: Float64Array, i4: Int32Array, i2: Int16Array, u4: Uint32Array, u2: Uint16Array, u1: Uint8Array,
};

/** The list of parts; an error says what is wrong with the page's own file. */
export function readIndex(): Index {
  const element = document.getElementById("index");
  if (!element) throw new Error("this page holds no data: it is the empty template, or it was cut off");
  let index: Index;
  try {
    index = JSON.parse(element.textContent ?? "");
  } catch (error) {
    throw new Error(`the list of this page's data is damaged or cut off: ${String(error)}`);
  }
  if (index.version !== VERSION) {
    throw new Error(`the data are of bundle version ${index.version}, this page reads version ${VERSION}: make it again`);
  }
  return index;
}

const handedOver = new Map<string, string>();
(globalThis as any).personascope_part = (name: string, text: string) => handedOver.set(name, text);

async function textOf(entry: PartEntry): Promise<string> {
  if (entry.id) {
    const element = document.getElementById(entry.id);
    if (!element) throw new Error("it is not in this file, which was cut off");
    return element.textContent ?? "";
  }
  await new Promise<void>((resolve, reject) => {
    const script = document.createElement("script");
    script.src = entry.file!;
    script.onload = () => resolve();
    script.onerror = () => reject(new Error(`${entry.file} is not beside this page, or cannot be read`));
    document.head.append(script);
  });
  const text = handedOver.get(entry.name);
  if (text === undefined) throw new Error(`${entry.file} does not hand over its part: it is of another page, or cut off`);
  handedOver.delete(entry.name);
  return text;
}

// Two letters of a part's text are 13 bits of its gzip, and one at the end is 6: all printed characters but " < and \.
const LETTERS = Array.from({ length: 94 }, (_, i) => 33 + i).filter((code) => !'"<\\'.includes(String.fromCharCode(code))), BITS = 13, LAST = 6;
const PLACE = new Int16Array(128).fill(-1);
LETTERS.forEach((code, i) => { PLACE[code] = i; });

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const n = text.length, pairs = n >> 1, out = new Uint8Array((pairs * BITS + (n & 1) * LAST) >> 3);
  let held = 0, count = 0, at = 0, wrong = 0;
  for (let i = 0; i < n; i += 2) {
    const single = i + 1 === n, high = PLACE[text.charCodeAt(i) & 127]!, low = single ? 0 : PLACE[text.charCodeAt(i + 1) & 127]!, bits = single ? LAST : BITS;
    wrong |= high | low;
    held = ((held & 255) << bits) | (single ? high : high * LETTERS.length + low);
    for (count += bits; count >= 8; count -= 8) out[at++] = (held >> (count - 8)) & 255;
  }
  if (wrong < 0) throw new Error("its text is damaged");
  return out;
}

async function unzip(text: string): Promise<ArrayBuffer> {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

/** Where an array's numbers are, number by number: as they lie, or from bytes that lie by their place in the numbers. */
function inOrder(buffer: ArrayBuffer, offset: number, count: number, kind: string, order: number): [ArrayBuffer, number, number] {
  if (!order) return [buffer, offset, count];
  const size = +kind[1]!, from = new Uint8Array(buffer, offset, count * size), to = new Uint8Array(count * size);
  for (let byte = 0; byte < size; byte++) for (let i = 0, j = byte * count; i < count; i++) to[i * size + byte] = from[j + i]!;
  return [to.buffer, 0, count];
}

/** The JSON of a part with its arrays in place. */
function unpack(buffer: ArrayBuffer): any {
  const length = new DataView(buffer).getUint32(0, true);
  const value = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = Math.ceil((4 + length) / 8) * 8;
  const restore = (item: any): any => {
    if (item === null || typeof item !== "object") return item;
    if (Array.isArray(item)) {
      if (item.length && typeof item[0] === "object") for (let i = 0; i < item.length; i++) item[i] = restore(item[i]);
      return item;
    }
    const array = item["@"], of = item["@of"], text = item["@text"];
    if (Array.isArray(text) && Object.keys(item).length === 1) {
      const words = text[0] as string[], [index, counts] = [restore(text[1]) as Num, restore(text[2]) as Num], out = new Array<string>(counts.length);
      for (let i = 0, at = 0; i < out.length; i++) {
        let one = "";
        for (const end = at + counts[i]!; at < end; at++) one += words[index[at]!]!;
        out[i] = one;
      }
      return out;
    }
    if (Array.isArray(array) && Object.keys(item).length === 1) {
      const [kind, offset, count, order] = array as [string, number, number, number];
      const numbers = new (KINDS[kind]!)(...inOrder(buffer, start + offset, count, kind, order));
      if (order === 2) for (let i = 1; i < count; i++) numbers[i]! += numbers[i - 1]!;
      return numbers;
    }
    if (Array.isArray(of) && Object.keys(item).length === 1) {
      const [values, index] = of.map(restore) as [Num, Num], out = new (values.constructor as typeof Int32Array)(index.length);
      for (let i = 0; i < out.length; i++) out[i] = values[index[i]!]!;
      return out;
    }
    for (const key in item) item[key] = restore(item[key]);
    return item;
  };
  return restore(value);
}

/** A part from its text; an error says what is wrong with it. */
export async function partOf(entry: PartEntry, text: string): Promise<any> {
  if (text.length !== entry.size) throw new Error(`it has ${text.length} of ${entry.size} characters: ${text.length < entry.size ? "the file was cut off" : "the file is of another page"}`);
  const buffer = await unzip(text).catch((error) => { throw new Error(`its data are damaged (${error instanceof Error ? error.message : String(error)})`); });
  const value = unpack(buffer);
  if (value.version !== VERSION) throw new Error(`it is of version ${value.version}, this page reads ${VERSION}`);
  return value;
}

export interface Loaded<T> { data?: T; error?: string }
const parts = new Map<string, Loaded<any>>();
const waiting = new Map<string, Promise<void>>();
let entries = new Map<string, PartEntry>();

export function useIndexEntries(index: Index): void {
  entries = new Map(index.parts.map((entry) => [entry.name, entry]));
}

export const hasPart = (name: string): boolean => entries.has(name);
export const partNames = (prefix: string): string[] => [...entries.keys()].filter((name) => name.startsWith(prefix));

export async function load<T>(name: string): Promise<Loaded<T>> {
  if (!parts.has(name)) {
    if (!waiting.has(name)) {
      const entry = entries.get(name);
      const work = async () => {
        try {
          if (!entry) throw new Error("there is none");
          parts.set(name, { data: await partOf(entry, await textOf(entry)) });
        } catch (error) {
          const where = entry?.file ? `${entry.file} (${name})` : name;
          parts.set(name, { error: `${where}: ${error instanceof Error ? error.message : String(error)}` });
        }
      };
      waiting.set(name, work());
    }
    await waiting.get(name);
  }
  return parts.get(name)!;
}

/** A part for a view: undefined while it is unpacked, and where `name` is empty. */
export function usePart<T>(name: string | null): Loaded<T> {
  const [, again] = useState(0);
  useEffect(() => {
    let here = true;
    if (name && !parts.has(name)) void load(name).then(() => here && again((n) => n + 1));
    return () => { here = false; };
  }, [name]);
  return (name && parts.get(name)) || {};
}
