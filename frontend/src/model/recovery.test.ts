import { describe, expect, it } from 'vitest'
import { alignedSpec, cycleColour, cycleSpec, partOf, recoveriesNow, running } from './recovery'
import type { Doc, Recovery, Series } from './types'

const series = (name: string, steps: number[], values: number[]): Series => ({
    name,
    steps: { data: Int32Array.from(steps), shape: [steps.length] },
    values: { data: Float64Array.from(values), shape: [values.length] },
    total: steps.length,
})
const recovery = (more: Partial<Recovery> = {}): Recovery => ({
    cycle: 1,
    first: 100,
    last: 110,
    training: series('loss', [1, 2], [3, 2.5]),
    smooth: null,
    validation: series('validation_loss', [5, 10], [2.5, 2.2]),
    loss_before: 2,
    loss_pruned: 3,
    loss_after: 2.2,
    recovered: null,
    ...more,
})

describe('one cycle', () => {
    it('lies at its steps in the run, against what it had before', () => {
        const spec = cycleSpec(recovery(), 1.6)
        expect(spec.title).toBe('Cycle 1: 80 % recovered')
        expect(spec.domain).toEqual([100, 110])
        expect(Array.from(spec.lines[1]!.steps)).toEqual([105, 110])
        expect(spec.references?.map((one) => one.label)).toEqual([
            'right after pruning',
            'before pruning',
            'baseline',
        ])
    })
    it('lets references that lie close share a label, and draws equal ones once', () => {
        const close = cycleSpec(recovery(), 1.99).references
        expect(close?.map((one) => one.label)).toEqual([
            'right after pruning',
            'before pruning, baseline',
            '',
        ])
        const equal = cycleSpec(recovery(), 2).references
        expect(equal?.map((one) => one.label)).toEqual(['right after pruning', 'before pruning, baseline'])
    })
    it('has no reference without a figure, and no line without a curve', () => {
        const spec = cycleSpec(
            recovery({ loss_before: null, loss_pruned: NaN, training: null, validation: null, last: 100 }),
            null,
        )
        expect(spec.references).toEqual([])
        expect(spec.lines).toEqual([])
        expect(spec.domain).toEqual([100, 101])
        expect(spec.title).toBe('Cycle 1')
    })
})

describe('aligned at the pruning', () => {
    it('begins at what pruning cost and falls towards zero', () => {
        const [one] = alignedSpec({ recoveries: [recovery()], baseline: 2, empty: null }).lines
        expect(Array.from(one!.steps)).toEqual([0, 5, 10])
        expect(Array.from(one!.values, (value) => Number(value.toFixed(6)))).toEqual([1, 0.5, 0.2])
    })
    it('has the cycle that goes on up to now, and as it was made once the run stands still', () => {
        const open = recovery({ cycle: 2, first: 200, training: null, validation: null, loss_after: null })
        const known = series('validation_loss', [105, 205, 210], [2.5, 2.9, 2.4])
        const doc = {
            fine_tuning: { recoveries: [recovery(), open], baseline: 2, empty: null },
            overview: { state: 'running', phase: 'fine-tuning' },
            curves: { series: [known] },
        } as unknown as Partial<Doc>
        const now = recoveriesNow(doc, 212)
        const [, second] = alignedSpec({ ...doc.fine_tuning!, recoveries: now }).lines
        expect(Array.from(second!.steps).slice(-2)).toEqual([5, 10])
        expect([now[0], now[1]!.last]).toEqual([doc.fine_tuning!.recoveries[0], 212])
        const stopped = { ...doc, overview: { ...doc.overview!, state: 'stopped' as const } }
        expect(recoveriesNow(stopped, 212)).toBe(doc.fine_tuning!.recoveries)
    })
    it('shows the training loss as it is where a cycle has no validation', () => {
        const spec = alignedSpec({
            recoveries: [recovery(), recovery({ cycle: 2, validation: null })],
            baseline: 2,
            empty: null,
        })
        expect(spec.unit).toContain('training loss')
        expect(spec.lines.map((line) => Array.from(line.values))).toEqual([
            [3, 2.5],
            [3, 2.5],
        ])
    })
    it('leaves out cycles in the middle and says so', () => {
        const recoveries = Array.from({ length: 30 }, (_, at) => recovery({ cycle: at + 1 }))
        const spec = alignedSpec({ recoveries, baseline: null, empty: null }, 5)
        expect(spec.lines.map((line) => line.label)).toEqual([
            'cycle 1',
            'cycle 2',
            'cycle 3',
            'cycle 4',
            'cycle 30',
        ])
        expect(spec.title).toContain('25 cycles left out')
    })
    it('stands without any', () => {
        expect(alignedSpec({ recoveries: [], baseline: null, empty: 'x' }).lines).toEqual([])
        expect(cycleColour(0, 1)).toBe(cycleColour(0, 5))
    })
})

describe('while it runs', () => {
    const curve = { ...series('loss', [1, 5, 9, 9, 12], [5, 4, 3, 2, 1]), label: 'loss', unit: '', group: '' }
    const curves = { series: [curve], clock: { steps: curve.steps, seconds: curve.values }, exact: true }
    it('takes the part of a curve between two steps, ends included', () => {
        expect(Array.from(partOf(curves, 'loss', 5, 9)!.values.data)).toEqual([4, 3, 2])
        expect(partOf(curves, 'loss', 13)).toBeNull()
        expect(partOf(curves, 'gone', 0)).toBeNull()
        expect(partOf(undefined, 'loss', 0)).toBeNull()
    })
    it('says of how many points, as far as the whole curve tells', () => {
        expect(partOf(curves, 'loss', 5, 9)!.total).toBe(3)
        expect(partOf({ ...curves, series: [{ ...curve, total: 5000 }] }, 'loss', 5, 9)!.total).toBe(3000)
    })
    it('continues the last recovery with what the curves have by now', () => {
        const now = running(recovery({ first: 5, last: 6, training: null }), curves, 12)
        expect(Array.from(now.training!.steps.data)).toEqual([0, 4, 4, 7])
        expect(now.validation).toBeNull()
        expect(now.last).toBe(12)
    })
})
