/** The document, section by section: what shows one of them is not redrawn when another changes. */
import type { Doc, SectionName } from './types'

export class Sections implements Partial<Doc> {
    static readonly NAMES: SectionName[] = [
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
        'samples',
        'settings',
        'log',
        'events',
    ]
    meta = $state.raw<Doc['meta']>()
    overview = $state.raw<Doc['overview']>()
    timeline = $state.raw<Doc['timeline']>()
    curves = $state.raw<Doc['curves']>()
    heads = $state.raw<Doc['heads']>()
    warmup = $state.raw<Doc['warmup']>()
    analysis = $state.raw<Doc['analysis']>()
    pruning = $state.raw<Doc['pruning']>()
    fine_tuning = $state.raw<Doc['fine_tuning']>()
    evaluation = $state.raw<Doc['evaluation']>()
    cycles = $state.raw<Doc['cycles']>()
    attention = $state.raw<Doc['attention']>()
    growth = $state.raw<Doc['growth']>()
    samples = $state.raw<Doc['samples']>()
    settings = $state.raw<Doc['settings']>()
    log = $state.raw<Doc['log']>()
    events = $state.raw<Doc['events']>()

    /** Takes over the sections that are there; names that this page does not know are left. */
    set(fresh: Partial<Doc>): void {
        for (const name of Sections.NAMES)
            if (fresh[name] !== undefined) Object.assign(this, { [name]: fresh[name] })
    }
}
