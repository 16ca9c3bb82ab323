/** The document, section by section: what shows one of them is not redrawn when another changes. */
import { createSubscriber } from 'svelte/reactivity'
import type { Doc, SectionName } from './types'

const NAMES: SectionName[] = [
    'meta',
    'overview',
    'timeline',
    'curves',
    'heads',
    'warmup',
    'analysis',
    'pruning',
    'fine_tuning',
    'evaluation',
    'cycles',
    'attention',
    'growth',
    'embeddings',
    'samples',
    'settings',
    'log',
    'events',
]

/** One section, and whether anything on the page shows it now. */
class Held {
    value = $state.raw<unknown>()
    watched = false
    readonly watch: () => void

    constructor(began: () => void) {
        this.watch = createSubscriber(() => {
            this.watched = true
            began()
            return () => (this.watched = false)
        })
    }
}

/** The accessors are defined from NAMES, so that none can be forgotten. */
export interface Sections extends Partial<Doc> {}

export class Sections {
    static readonly NAMES = NAMES
    private readonly held: Map<SectionName, Held>

    /** `began`: called when something begins to show a section. */
    constructor(began: (name: SectionName) => void = () => {}) {
        this.held = new Map(NAMES.map((name) => [name, new Held(() => began(name))]))
        for (const name of NAMES) {
            const held = this.held.get(name)!
            Object.defineProperty(this, name, {
                enumerable: true,
                get: () => {
                    held.watch()
                    return held.value
                },
                set: (value) => (held.value = value),
            })
        }
    }

    watched(name: SectionName): boolean {
        return this.held.get(name)!.watched
    }

    /** Takes over the sections that are there; names that this page does not know are left. */
    set(fresh: Partial<Doc>): void {
        for (const name of NAMES) if (fresh[name] !== undefined) this.held.get(name)!.value = fresh[name]
    }
}
