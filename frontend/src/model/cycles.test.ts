import { describe, expect, it } from 'vitest'
import { cycleColumns, prunedCells } from './cycles'
import { cycleCharts } from './cycles-charts'
import { toCsv } from './table'
import type { Cycle, Cycles } from './types'

const cycle = (at: number, more: Partial<Cycle> = {}): Cycle => ({
    cycle: at,
    strategy: 'gradient',
    level: 0.2,
    pruned: 2,
    grown: 0,
    heads_left: 8 - 2 * at,
    sparsity: at / 4,
    loss_before: 2,
    loss_pruned: 3,
    loss_after: 2.1,
    training: null,
    perplexity: null,
    control_perplexity: null,
    impact: null,
    impact_on_control: null,
    seconds: 61,
    ...more,
})
const view = (cycles: Cycle[]): Cycles => ({
    cycles,
    baseline: { value: 7, low: 6, high: 8 },
    pruned_in: { data: Int32Array.from([0, 1, 2, 0]), shape: [2, 2] },
    states: { data: Int8Array.from([1, 0, 2, -1]), shape: [2, 2] },
    recoveries: [],
    cumulative: [],
    judged: [],
    returned: null,
    knee: null,
    empty: null,
})

describe('the table', () => {
    it('has a column where some cycle has a figure', () => {
        const keys = (cycles: Cycle[]) => cycleColumns(cycles).map((one) => one.key)
        expect(keys([cycle(1)])).not.toContain('perplexity')
        expect(keys([cycle(1)])).not.toContain('grown')
        expect(keys([cycle(1), cycle(2, { grown: 1 })])).toContain('grown')
        expect(keys([cycle(1, { impact: { value: NaN, low: null, high: null } })])).toContain('impact')
        expect(keys([])).toEqual(['cycle'])
    })
    it('shows intervals, and writes both ends into the CSV in full', () => {
        const rows = [cycle(1, { perplexity: { value: 6.123456789, low: 6, high: 6.5 } })]
        const columns = cycleColumns(rows)
        const one = columns.find((column) => column.key === 'perplexity')!
        expect([one.text?.(rows[0]!), one.note?.(rows[0]!)]).toEqual(['6.12', '6.00–6.50'])
        expect(toCsv(rows, columns)).toContain('6.123456789,6,6.5')
    })
})

describe('charts across cycles', () => {
    it('have a point only where something was measured', () => {
        const charts = cycleCharts(
            view([cycle(1), cycle(2, { perplexity: { value: 9, low: null, high: null } }), cycle(3)]),
        )
        const perplexity = charts.find((one) => one.title === 'Perplexity')!
        expect(Array.from(perplexity.lines[0]!.steps)).toEqual([2])
        expect(Array.from(perplexity.lines[0]!.low!)).toEqual([NaN])
        expect(perplexity.references).toEqual([{ value: 7, label: 'baseline' }])
        expect(perplexity.domain).toEqual([0.5, 3.5])
        expect(charts.map((one) => one.title)).not.toContain('Cumulative impact')
    })
    it('stand without cycles', () => expect(cycleCharts(view([]))).toEqual([]))
})

it('every head that some cycle took has its place, and whether it is back', () => {
    expect(prunedCells(view([]))).toEqual([
        { layer: 0, head: 1, cycle: 1, back: false },
        { layer: 1, head: 0, cycle: 2, back: true },
    ])
    expect(prunedCells({ ...view([]), pruned_in: { data: new Int32Array(), shape: [0, 0] } })).toEqual([])
})
