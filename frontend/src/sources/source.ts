/** Where the page's data comes from: the same questions to a file, a server and a notebook kernel. */
import type { Curve, Doc, RawEvents, RunEntry, SectionName, Update } from '../model/types'

export type Connection = 'file' | 'connecting' | 'live' | 'polling' | 'lost'

export interface Source {
    readonly kind: 'file' | 'live' | 'notebook'
    document(sections?: SectionName[]): Promise<Partial<Doc>>
    /** Every recorded point of a window, as far as `most` allows; a file has only what it carries. */
    curve?(name: string, first: number, last: number, most: number): Promise<Curve>
    events?(before: number | null, kind: string, most: number): Promise<RawEvents>
    /** Updates after event number `after`, until the returned function is called. */
    follow?(after: number, update: (u: Update) => void, connection: (c: Connection) => void): () => void
    exportHref?: string
    listHref?: string
}

export interface RunsSource {
    runs(): Promise<RunEntry[]>
    hrefOf(id: string): string
    compareHref(ids: string[]): string
}
