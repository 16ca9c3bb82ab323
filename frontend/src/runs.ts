/** The list of runs: what is shown of it, in which order. */
import type { RunEntry } from './model/types'

export const COLUMNS = [
    { id: 'name', label: 'Run' },
    { id: 'state', label: 'State' },
    { id: 'phase', label: 'Phase' },
    { id: 'cycle', label: 'Cycle', number: true },
    { id: 'step', label: 'Step', number: true },
    { id: 'perplexity', label: 'Perplexity', number: true },
    { id: 'sparsity', label: 'Heads removed', number: true },
    { id: 'prefill_speedup', label: 'Speed', number: true },
    { id: 'size_reduction', label: 'Model size', number: true },
    { id: 'started', label: 'Started', number: true },
    { id: 'last_event', label: 'Last event', number: true },
] as const satisfies { id: string; label: string; number?: boolean }[]
export type Column = (typeof COLUMNS)[number]['id']

export interface Choice {
    search: string
    state: string
    by: Column
    down: boolean
}

const ORDER = ['running', 'stale', 'failed', 'stopped', 'finished']
export const states = (runs: RunEntry[]): string[] =>
    ORDER.filter((one) => runs.some((run) => run.state === one))

function keyOf(run: RunEntry, by: Column): string | number | null {
    if (by === 'name') return (run.name || run.id).toLowerCase()
    if (by === 'state') return ORDER.indexOf(run.state)
    if (by === 'phase' || by === 'cycle' || by === 'step') return run[by]
    if (by === 'started' || by === 'last_event') return run[by] || null
    return run.figures[by] ?? null
}

/** Those that fit, in order; what has no value, and what cannot be read, comes last either way. */
export function sorted(runs: RunEntry[], { search, state, by, down }: Choice): RunEntry[] {
    const wanted = search.trim().toLowerCase()
    const fits = (run: RunEntry) =>
        (!state || run.state === state) &&
        (!wanted || [run.name, run.id, ...run.tags].some((text) => text.toLowerCase().includes(wanted)))
    const keyed = runs.filter(fits).map((run) => ({ run, key: run.error ? null : keyOf(run, by) }))
    keyed.sort((a, b) => {
        if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null)
        const order = a.key < b.key ? -1 : a.key > b.key ? 1 : 0
        return down ? -order : order
    })
    return keyed.map((one) => one.run)
}
