/** Which runs share a colour: each its own while they are few, else those with one value of a setting. */
import type { Comparison } from '../model/types-comparison'

export const COLOURS = [
    '#0072B2',
    '#D55E00',
    '#009E73',
    '#CC79A7',
    '#E69F00',
    '#56B4E9',
    '#6A3D9A',
    '#4D4D4D',
]
export const MOST = COLOURS.length
const FIRST = ['pruning_strategy', 'pruning_level', 'cycles', 'growth']

export interface Classes {
    by: string
    labels: string[]
    colours: string[]
    /** Class of each run. */
    of: number[]
    counts: number[]
}

/** What can be coloured by: runs, and settings with a few values; the most telling ones first. */
export function choices({ runs, settings }: Comparison): string[] {
    const told = settings.differ
        .filter(({ section, values }) => section !== 'environment' && new Set(values).size <= MOST)
        .map((one) => one.name)
    const order = (name: string) => (FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length)
    const sorted = [...new Set(told)].sort((a, b) => order(a) - order(b))
    return [...(runs.length <= MOST ? ['run'] : []), ...sorted, 'nothing']
}

export function classesOf(doc: Comparison, by: string, names: string[]): Classes {
    const values =
        by === 'run'
            ? names
            : (doc.settings.differ.find((one) => one.name === by)?.values ?? doc.runs.map(() => 'all runs'))
    const labels = [...new Set(values)]
    if (by !== 'run') labels.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    const of = values.map((value) => labels.indexOf(value))
    return {
        by,
        labels: labels.map((label) => label || 'not told'),
        colours: labels.map((_, at) => COLOURS[at % MOST]!),
        of,
        counts: labels.map((_, at) => of.filter((one) => one === at).length),
    }
}

/** Names that tell runs apart: what their path adds, where names alone do not. */
export function namesOf(doc: Comparison): string[] {
    const seen = new Map<string, number>()
    for (const { name } of doc.runs) seen.set(name, (seen.get(name) ?? 0) + 1)
    const own = doc.runs.map((run) => {
        if (seen.get(run.name) === 1) return run.name
        const last = run.path.split('/').filter(Boolean).at(-1)
        return last && last !== run.name ? `${run.name} · ${last}` : run.name
    })
    return own.map((name, at) => (own.indexOf(name) === own.lastIndexOf(name) ? name : `${name} (${at + 1})`))
}
