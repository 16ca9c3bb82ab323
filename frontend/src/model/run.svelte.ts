/** The state that everything on the page hangs on: the document, one time cursor, one selected head, one panel. */
import type { Connection, Source } from '../sources/source'
import type { Doc, SectionName, Update } from './types'

export interface HeadRef {
    layer: number
    head: number
}

export class RunModel {
    readonly source: Source
    doc = $state.raw<Partial<Doc>>({})
    /** Step that is looked at; null is the newest one, and follows it. */
    cursor = $state<number | null>(null)
    selected = $state<HeadRef | null>(null)
  /** Steps that the linked charts show; null is the whole run. */
  zoom = $state<[number, number] | null>(null)
    panel = $state('metrics')
    connection = $state<Connection>('connecting')
    error = $state<string | null>(null)
    /** Seconds that the server's clock is ahead of this one. */
    clockSkew = 0

    private newest = $state(0)
  readonly first = $derived(this.doc.timeline?.first ?? 0)
    readonly last = $derived(Math.max(this.doc.timeline?.last ?? 0, this.newest))
    readonly step = $derived(Math.min(Math.max(this.cursor ?? this.last, this.first), this.last))
      private stop: (() => void) | undefined

    constructor(source: Source) {
        this.source = source
    }

    async open(): Promise<void> {
        try {
            await this.fetch()
            this.connection = this.source.kind === 'file' ? 'file' : 'connecting'
            this.stop = this.source.follow?.(
                this.doc.meta?.seq ?? 0,
                (update) => void this.take(update),
                (connection) => (this.connection = connection),
            )
        } catch (problem) {
            this.error = problem instanceof Error ? problem.message : String(problem)
        }
    }

    close(): void {
        this.stop?.()
    }

    private async fetch(sections?: SectionName[]): Promise<void> {
        const fresh = await this.source.document(sections)
        this.doc = { ...this.doc, ...fresh }
        this.newest = Math.max(this.newest, fresh.timeline?.last ?? 0)
    }

    private async take(update: Update): Promise<void> {
        this.newest = Math.max(this.newest, update.progress.step)
        if (update.reset) await this.fetch()
        else if (update.changed.length) await this.fetch(update.changed)
    }
}
