/** What the page of a comparison knows: the runs, the one highlighted, the pair looked at, what colours mean. */
import type { Place as Head } from '../model/heads'
import type { Comparison, ComparisonDoc, ComparisonMeta } from '../model/types-comparison'
import { choices, classesOf, namesOf } from './colours'
import { parsePlace, placeHash } from './place'

export interface ComparisonSource {
    readonly kind: 'file' | 'live'
    /** Null: nothing has changed since the last time. */
    document(): Promise<ComparisonDoc | null>
    listHref?: string
    exportHref?: string
}

const EVERY = 3000
const SETTLED = 200
export const FIRST_PANEL = 'settings'

export class CompareModel {
    doc = $state.raw<Comparison | null>(null)
    meta = $state.raw<ComparisonMeta | null>(null)
    error = $state('')
    lost = $state('')
    /** The run that was chosen; while the pointer is on another one, that is shown. */
    run = $state<number | null>(null)
    hover = $state<number | null>(null)
    head = $state.raw<Head | null>(null)
    panel = $state(FIRST_PANEL)
    private asked = $state.raw<[number, number] | null>(null)
    private colouring = $state<string | null>(null)
    hidden = $state.raw(new Set<number>())
    kind = $state<number | null>(null)

    readonly count = $derived(this.doc?.runs.length ?? 0)
    readonly names = $derived(this.doc ? namesOf(this.doc) : [])
    readonly choices = $derived(this.doc ? choices(this.doc) : [])
    readonly by = $derived(
        this.colouring && this.choices.includes(this.colouring)
            ? this.colouring
            : (this.choices[0] ?? 'nothing'),
    )
    readonly classes = $derived(this.doc ? classesOf(this.doc, this.by, this.names) : null)
    /** Runs that charts show. */
    readonly visible = $derived(
        (this.doc?.runs ?? []).flatMap((one, at) =>
            (this.kind === null || one.kind === this.kind) && !this.hidden.has(this.classes!.of[at]!)
                ? [at]
                : [],
        ),
    )
    readonly mixed = $derived((this.doc?.kinds.length ?? 0) > 1 && this.kind === null)
    readonly shown = $derived(this.hover ?? this.run)
    readonly pair = $derived<[number, number]>(
        this.asked && this.asked.every((one) => one < this.count) && this.asked[0] !== this.asked[1]
            ? this.asked
            : [0, Math.min(1, Math.max(this.count - 1, 0))],
    )

    constructor(readonly source: ComparisonSource) {}

    async open(): Promise<void> {
        try {
            this.take(await this.source.document())
            this.error = ''
        } catch (problem) {
            this.error = problem instanceof Error ? problem.message : String(problem)
        }
    }

    private take(found: ComparisonDoc | null): void {
        if (!found) return
        this.doc = found.comparison
        this.meta = found.meta
        if (this.run !== null && this.run >= this.count) this.run = null
    }

    /** Asks again and again, until the returned function is called. */
    follow(): () => void {
        let over = false
        let timer: ReturnType<typeof setTimeout>
        const look = async () => {
            try {
                if (!document.hidden) this.take(await this.source.document())
                this.lost = ''
            } catch (problem) {
                this.lost = problem instanceof Error ? problem.message : String(problem)
            }
            if (!over) timer = setTimeout(look, EVERY)
        }
        timer = setTimeout(look, EVERY)
        return () => {
            over = true
            clearTimeout(timer)
        }
    }

    colourOf(run: number): string {
        return this.classes!.colours[this.classes!.of[run]!]!
    }
    colourBy(name: string): void {
        this.colouring = name
        this.hidden = new Set()
    }
    toggle(group: number): void {
        const next = new Set(this.hidden)
        if (!next.delete(group)) next.add(group)
        this.hidden = next.size < this.classes!.labels.length ? next : new Set()
    }
    choose(run: number | null): void {
        this.run = run === this.run ? null : run
    }
    compare(left: number, right: number): void {
        if (left !== right) this.asked = [left, right]
    }

    /** Keeps the address up to date, and goes where it leads. */
    bind(): () => void {
        let timer: ReturnType<typeof setTimeout> | undefined
        const read = () => {
            const place = parsePlace(location.hash)
            this.run = place.run
            this.head = place.head
            this.panel = place.panel ?? FIRST_PANEL
            this.asked = place.pair
        }
        read()
        const stop = $effect.root(() => {
            $effect(() => {
                const hash = placeHash({
                    run: this.run,
                    head: this.head,
                    panel: this.panel === FIRST_PANEL ? null : this.panel,
                    pair: this.asked,
                })
                clearTimeout(timer)
                timer = setTimeout(() => {
                    if (hash !== location.hash)
                        history.replaceState(null, '', hash || location.pathname + location.search)
                }, SETTLED)
            })
        })
        window.addEventListener('popstate', read)
        return () => {
            stop()
            clearTimeout(timer)
            window.removeEventListener('popstate', read)
        }
    }
}
