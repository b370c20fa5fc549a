// The few pieces that every view is made of.
import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { saveCsv } from "./export";
import { NONE, interval, num } from "./format";
import { now, update, useAddress } from "./state";

export interface Column<T> {
  key: string;
  label: string;
  /** What is sorted by and exported, with all digits. */
  value: (row: T) => string | number | boolean | null | undefined;
  show?: (row: T) => ComponentChildren;
  text?: boolean;
  title?: string;
  /** Only in the exported file. */
  hidden?: boolean;
}

interface TableProps<T> {
  name: string;
  caption: string;
  columns: Column<T>[];
  rows: T[];
  limit?: number;
  onRow?: (row: T) => void;
  isChosen?: (row: T) => boolean;
  sort?: [string, 1 | -1];
  quiet?: boolean;
}

/** A table that sorts by a click on a head and exports all its rows, also those not shown yet. */
export function Table<T>({ name, caption, columns, rows, limit = 50, onRow, isChosen, sort, quiet }: TableProps<T>) {
  const stated = sortOf(useAddress().get("sort"), encodeURIComponent(name));
  const by = useMemo(() => stated ?? sort, [stated?.[0] ?? sort?.[0], stated?.[1] ?? sort?.[1]]);
  const [shown, setShown] = useState(limit);
  const seen = columns.filter((column) => !column.hidden);
  const ordered = useMemo(() => {
    const column = by && columns.find((one) => one.key === by[0]);
    if (!column) return rows;
    const values = rows.map(column.value);
    if (values.every((value) => typeof value === "number")) {
      const keys = Float64Array.from(values as number[], (value) => (isNaN(value) ? Infinity : by[1] * value));
      return Array.from(Uint32Array.from(keys.keys()).sort((a, b) => keys[a]! - keys[b]! || a - b), (i) => rows[i]!);
    }
    const keyed = rows.map((row, i) => [values[i], row] as const);
    const empty = (v: unknown) => v === null || v === undefined || v === "" || (typeof v === "number" && isNaN(v));
    keyed.sort(([a], [b]) => {
      if (empty(a) || empty(b)) return Number(empty(a)) - Number(empty(b));
      return by[1] * (typeof a === "string" || typeof b === "string" ? String(a).localeCompare(String(b)) : Number(a) - Number(b));
    });
    return keyed.map(([, row]) => row);
  }, [rows, by, columns]);
  const next = (key: string) => {
    const up = by?.[0] === key ? by[1] !== 1 : Boolean(columns.find((c) => c.key === key)?.text);
    update({ sort: withSort(now().get("sort"), encodeURIComponent(name), key, up) });
  };
  const save = () => saveCsv(name, columns.map((c) => c.key), ordered.map((row) => columns.map((c) => c.value(row))));
  return (
    <div class="tablebox">
      <div class="wide" tabIndex={0} role="region" aria-label={caption}>
        <table>
          <caption class={quiet ? "sr" : ""}>{caption}</caption>
          <thead>
            <tr>
              {seen.map((c) => (
                <th scope="col" key={c.key} class={c.text ? "t" : ""} title={c.title}
                  aria-sort={by?.[0] === c.key ? (by[1] === 1 ? "ascending" : "descending") : undefined}>
                  <button type="button" onClick={() => next(c.key)}>{c.label}</button>
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {ordered.slice(0, shown).map((row, i) => (
              <tr key={i} class={isChosen?.(row) ? "chosen" : ""} onClick={onRow && (() => onRow(row))} data-go={onRow ? "" : undefined}>
                {seen.map((c, j) => {
                  const shownCell = c.show ? c.show(row) : plain(c.value(row));
                  return (
                    <td key={c.key} class={c.text ? "t" : ""} dir={c.text ? "auto" : undefined}>
                      {onRow && j === 0 ? <button type="button" class="plain" onClick={(e) => { e.stopPropagation(); onRow(row); }}>{shownCell}</button> : shownCell}
                    </td>
                  );
                })}
              </tr>
            ))}
            {!ordered.length && <tr><td class="t soft" colSpan={seen.length}>nothing to show</td></tr>}
          </tbody>
        </table>
      </div>
      <p class="tools">
        {ordered.length > shown && (
          <>
            <span class="soft">{shown} of {ordered.length}</span>
            <button type="button" onClick={() => setShown(shown + 200)}>more</button>
          </>
        )}
        <button type="button" onClick={save} aria-label={`Save as CSV: ${caption}`}>CSV</button>
      </p>
    </div>
  );
}

/** How tables are sorted stands in the address: NAME:COLUMN:up or down, one table after the other by semicolons. */
function sortOf(stated: string, name: string): [string, 1 | -1] | undefined {
  const own = stated.split(";").map((part) => part.split(":")).find(([table]) => table === name);
  return own ? [own[1]!, own[2] === "up" ? 1 : -1] : undefined;
}
const withSort = (stated: string, name: string, key: string, up: boolean): string =>
  [...stated.split(";").filter((part) => part && part.split(":")[0] !== name), [name, key, up ? "up" : "down"].join(":")].join(";");

const plain = (value: unknown): string =>
  typeof value === "number" ? num(value) : value === null || value === undefined || value === "" ? NONE : String(value);

/** A number with its interval beside it. */
export const WithInterval = ({ value, low, high, digits = 3 }: { value: unknown; low: unknown; high: unknown; digits?: number }) => (
  <span class="nowrap">{num(value, digits)} <span class="soft">{interval(low, high, digits)}</span></span>
);

export const Notice = ({ children, strong }: { children: ComponentChildren; strong?: boolean }) => (
  <p class={strong ? "notice strong" : "notice"} role="note">{children}</p>
);

/** Said where a link names something that is not on the page, so that what is shown instead is not taken for it. */
export const Lost = ({ what, asked, known, instead }: { what: string; asked: string; known: string[]; instead: string }) =>
  asked && !known.includes(asked) ? <Notice strong>There is no {what} <bdi>{asked}</bdi> on this page; {instead}.</Notice> : null;

export const Waiting = ({ what, error }: { what: string; error?: string | undefined }) =>
  error ? <Notice strong>Not shown: {error}</Notice> : <p class="soft" role="status">Reading {what} …</p>;

interface ChooseProps { label: string; value: string; options: [string, string][]; onChange: (value: string) => void }
export const Choose = ({ label, value, options, onChange }: ChooseProps) => (
  <label class="choose">
    <span>{label}</span>
    <select value={value} onChange={(e) => onChange(e.currentTarget.value)}>
      {options.map(([key, text]) => <option value={key} key={key}>{text}</option>)}
    </select>
  </label>
);

/** Buttons of which one is pressed. */
export const Tabs = ({ label, value, options, onChange }: ChooseProps) => (
  <div class="tabs" role="group" aria-label={label}>
    {options.map(([key, text]) => (
      <button type="button" key={key} aria-pressed={key === value} onClick={() => onChange(key)}>{text}</button>
    ))}
  </div>
);

export const Section = ({ title, children, id, note }: { title: string; children: ComponentChildren; id?: string; note?: ComponentChildren }) => (
  <section id={id} class="section">
    <h2>{title}</h2>
    {note && <p class="soft note">{note}</p>}
    {children}
  </section>
);
