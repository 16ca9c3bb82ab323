import { describe, expect, it } from 'vitest'
import type { Comparison, Moments, Point, RunLineCurve } from '../model/types-comparison'
import { aligned, bySparsity, cycleAt, valueAt } from './align'
import { bandOf, quantile } from './bands'
import { choices, classesOf, namesOf } from './colours'
import { front, statesOf } from './front'
import { prunedShare, rankCorrelation, ranks, whoPruned } from './heads'
import { verdict, written } from './overlap'
import { axesOf } from './parallel'
import { parsePlace, placeHash } from './place'
import { frameOf, nearest, type RunChartSpec } from './run-chart'

const integers = (...values: number[]) => ({ data: Int32Array.from(values), shape: [values.length] })
const floats = (...values: number[]) => ({ data: Float32Array.from(values), shape: [values.length] })
const moments: Moments = {
    steps: integers(0, 100, 160),
    cycles: integers(0, 1, 2),
    changed: integers(0, 102, 162),
    sparsity: floats(0, 0.25, 0.5),
    last: 200,
}

describe('alignment', () => {
    it('places steps in their cycles', () => {
        expect([0, 50, 100, 130, 160, 200].map((step) => cycleAt(moments, step))).toEqual([
            0, 0.5, 1, 1.5, 2, 3,
        ])
    })
    it('takes what was measured last at each share of heads; the step of a decision belongs to what was before', () => {
        const { x, y } = bySparsity([0, 50, 102, 140, 162, 200], [9, 5, 4, 6, 5.5, 8], moments)
        expect([...x]).toEqual([0, 0.25, 0.5])
        expect([...y]).toEqual([4, 5.5, 8])
    })
    it('smooths no decision away, and uses means where points were left out', () => {
        const steps = Array.from({ length: 200 }, (_, at) => at)
        const values = steps.map((step) => (step <= 102 ? 1 : 3))
        const curve = {
            run: 0,
            metric: 0,
            total: 200,
            steps: integers(...steps),
            values: floats(...values),
            means: null,
        }
        const { y } = aligned(curve as RunLineCurve, moments, 'step', 0.2)
        expect([y[102], y[103]]).toEqual([1, 3])
        const means = { width: 50, steps: integers(25, 75), values: floats(7, 8) }
        const thinned = aligned({ ...curve, total: 9999, means } as RunLineCurve, moments, 'step', 0.01)
        expect([...thinned.y]).toEqual([7, 8])
    })
})

describe('bands', () => {
    it('are quantiles of the lines that reach a place', () => {
        expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5)
        const line = (value: number, last: number) => ({
            x: Float64Array.of(0, last),
            y: Float64Array.of(value, value),
        })
        const band = bandOf([line(1, 10), line(2, 10), line(3, 10), line(9, 5)])!
        expect(band.middle[0]).toBe(2.5)
        expect(band.x.at(-1)).toBe(10)
        expect(band.middle.at(-1)).toBe(2)
        expect(bandOf([line(1, 10), line(2, 10)])).toBeNull()
        expect(valueAt(line(1, 10), 11)).toBeNaN()
    })
})

const point = (sparsity: number, value: number): Point => ({
    cycle: 1,
    sparsity,
    split: 'test',
    perplexity: { value, low: null, high: null },
    to_baseline: null,
    to_control: null,
})

it('the front is what no other state beats', () => {
    const doc = {
        fronts: [
            [point(0, 10), point(0.2, 9), point(0.5, 14)],
            [point(0.2, 9.5), point(0.4, 12)],
        ],
    }
    const states = statesOf(doc as unknown as Comparison, 'perplexity', [0, 1])
    expect(front(states).map((one) => [one.x, one.y])).toEqual([
        [0.2, 9],
        [0.4, 12],
        [0.5, 14],
    ])
    expect(statesOf(doc as unknown as Comparison, 'to_control', [0, 1])).toEqual([])
})

describe('heads of two runs', () => {
    it('ranks with ties, and correlates what both measured', () => {
        expect(ranks([5, 1, 5, 0])).toEqual([2.5, 1, 2.5, 0])
        expect(rankCorrelation([1, 2, 3, NaN], [10, 20, 40, 1])).toEqual({ r: 1, heads: 3 })
        expect(rankCorrelation([1, 2, 3], [3, 2, 1])!.r).toBe(-1)
        expect(rankCorrelation([1, 1, 1], [1, 2, 3])).toBeNull()
    })
    it('says who pruned what', () => {
        expect([...whoPruned(Int8Array.of(0, 1, 0, 1, -1), Int8Array.of(0, 0, 2, 1, 0))]).toEqual([
            3, 2, 1, 0, -1,
        ])
        const states = (...values: number[]) => ({
            states: { data: Int8Array.from(values), shape: [1, values.length] },
            scores: [],
        })
        const heads = { criteria: [], thinned: null, runs: [states(0, 1), states(0, 0, 3)] }
        expect([...prunedShare(heads, [0, 1], [1, 3])]).toEqual([1, 0.5, 0])
    })
})

it('says what chance would give', () => {
    const chance = { expected: 4.3, low: 2, high: 7, p: 0.0004 }
    expect(verdict(9, chance)).toBe('chance gives 4.3 (2–7 in 95 % of cases): more than chance, p = 0.00040')
    expect(verdict(5, { ...chance, p: 0.5 })).toContain('no more than chance')
    expect(verdict(1, chance)).toContain('fewer than chance')
    expect(verdict(3, { expected: 3, low: 3, high: 3, p: 1 })).toContain('nothing else was possible')
    expect(written(1e-9)).toBe('p < 0.0001')
})

it('keeps the place in the address, runs counted from one', () => {
    const place = { run: 4, head: { layer: 2, head: 11 }, panel: 'overlap', pair: [0, 6] as [number, number] }
    expect(placeHash(place)).toBe('#panel=overlap&selected=5&pair=1-7&head=2.11')
    expect(parsePlace(placeHash(place))).toEqual(place)
    expect(parsePlace('#selected=0&pair=1-&head=x&panel=<b>')).toEqual({
        run: null,
        head: null,
        panel: null,
        pair: null,
    })
})

describe('colours', () => {
    const runs = (names: string[], strategies: string[]) =>
        ({
            runs: names.map((name, at) => ({ name, path: `runs/${at}`, outcome: null, seconds: 1, kind: 0 })),
            settings: {
                differ: [
                    { section: 'configuration', name: 'seed', values: names.map((_, at) => String(at)) },
                    { section: 'configuration', name: 'pruning_strategy', values: strategies },
                ],
                equal: [],
            },
        }) as unknown as Comparison
    it('few runs have one each, many share those of the most telling setting', () => {
        const few = runs(['a', 'b'], ['x', 'y'])
        expect(choices(few)[0]).toBe('run')
        const many = runs(
            Array.from({ length: 20 }, (_, at) => `r${at}`),
            Array.from({ length: 20 }, (_, at) => (at % 2 ? 'x' : 'y')),
        )
        expect(choices(many)).toEqual(['pruning_strategy', 'nothing'])
        const found = classesOf(many, 'pruning_strategy', namesOf(many))
        expect([found.labels, found.counts, found.of[0]]).toEqual([['x', 'y'], [10, 10], 1])
    })
    it('names that are alike are told apart by their place', () => {
        expect(namesOf(runs(['same', 'same', 'other'], ['x', 'x', 'y']))).toEqual([
            'same · 0',
            'same · 1',
            'other',
        ])
    })
    it('parallel axes: words in order, numbers as numbers, and nothing on which all agree', () => {
        const axes = axesOf(runs(['a', 'b', 'c'], ['x', 'y', 'x']), [0, 1, 2])
        expect(axes.map((axis) => [axis.name, axis.words])).toEqual([
            ['seed', null],
            ['pruning strategy', ['x', 'y']],
        ])
    })
})

it('names the line under the pointer', () => {
    const plot = (run: number, y: number[]) => ({ run, label: `${run}`, x: [0, 1, 2], y, colour: '#000000' })
    const spec: RunChartSpec = {
        title: '',
        unit: '',
        xLabel: '',
        plots: [plot(3, [0, 0, 0]), plot(7, [0, 5, 10])],
    }
    const frame = frameOf(spec, null, false, { width: 466, height: 232 })
    const [right, middle] = [52 + 400, 52 + 200]
    expect(nearest(spec, frame, right, 15)?.run).toBe(7)
    expect(nearest(spec, frame, right, 203)?.run).toBe(3)
    expect(nearest(spec, frame, middle, 50)).toBeNull()
})
