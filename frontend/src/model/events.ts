/** Events on the page: those of the document, and what was asked for further back, without a hole between them. */
import type { RawEvents } from './types'

export type RawEvent = RawEvents['rows'][number]

/** Pages further back by the kind that they were asked for; "" is all kinds. */
export type Pages = ReadonlyMap<string, RawEvent[]>
export const NO_PAGES: Pages = new Map()
const MOST = 5_000

const ends = (rows: RawEvent[]): [number, number] =>
    rows.reduce(([low, high], { seq }) => [Math.min(low, seq), Math.max(high, seq)], [Infinity, -Infinity])

function merged(parts: RawEvent[][]): RawEvent[] {
    const found = new Map<number, RawEvent>()
    for (const rows of parts) for (const row of rows) found.set(row.seq, row)
    return [...found.values()].sort((a, b) => b.seq - a.seq)
}

/** Newest first: what the document has and what was fetched, of one kind or of all. */
export function listed(rows: RawEvent[], pages: Pages, kind: string): RawEvent[] {
    const all = [pages.get('') ?? [], rows]
    return merged(
        kind ? [pages.get(kind) ?? [], ...all.map((one) => one.filter((row) => row.kind === kind))] : all,
    )
}

export const withPage = (pages: Pages, kind: string, rows: RawEvent[]): Pages =>
    new Map([...pages, [kind, merged([pages.get(kind) ?? [], rows])]])

/** Pages after the document moved on from `before` to `now`: what it dropped is kept, unless that left a hole. */
export function movedOn(pages: Pages, before: RawEvent[], now: RawEvent[]): Pages {
    if (!before.length || !now.length) return pages
    if (ends(now)[0] > ends(before)[1] || ends(now)[1] < ends(before)[1]) return NO_PAGES
    const kept = merged([pages.get('') ?? [], before])
    return kept.length > MOST ? NO_PAGES : new Map([...pages, ['', kept]])
}
