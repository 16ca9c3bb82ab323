/** What removing heads costs: every state of every run, and those that no other beats. */
import type { Measured } from '../model/types'
import type { Comparison, Point } from '../model/types-comparison'

export const COSTS = {
    perplexity: { label: 'perplexity', title: 'Perplexity', unit: '' },
    to_baseline: { label: 'against own baseline', title: 'Perplexity ÷ own baseline', unit: '1: no change' },
    to_control: {
        label: 'against the control',
        title: 'Perplexity ÷ control',
        unit: 'the control is unpruned, trained as long',
    },
} as const
export type Cost = keyof typeof COSTS

export const costOf = (point: Point, cost: Cost): Measured | null => point[cost]

export interface State {
    run: number
    point: Point
    x: number
    y: number
}

/** Points with this cost, of these runs. */
export function statesOf(doc: Comparison, cost: Cost, runs: number[]): State[] {
    return runs.flatMap((run) =>
        doc.fronts[run]!.flatMap((point) => {
            const value = costOf(point, cost)?.value
            return value !== undefined && Number.isFinite(value)
                ? [{ run, point, x: point.sparsity, y: value }]
                : []
        }),
    )
}

/** The states that no other beats: as many heads removed at a lower cost. By heads removed, costs rising. */
export function front(states: State[]): State[] {
    const ordered = [...states].sort((a, b) => b.x - a.x || a.y - b.y)
    let best = Infinity
    const kept = ordered.filter((one) => {
        const better = one.y < best
        if (better) best = one.y
        return better
    })
    return kept.reverse()
}
