import { describe, expect, it } from 'vitest'
import { STEPS, timeAxis } from '../model/clock'
import { CYCLE, CYCLE_FROM_BASELINE, CYCLES_SINCE, HEADS_REMOVED, STEPS_SINCE_PRUNING } from './axes'
import { csv, field, fileName, lineTable } from './export'
import { prepare, type View } from './prepare'
import { elapsed, logScale, roundStep, stepScale, tickText, timeScale, valueScale } from './scale'
import type { Line } from './spec'
import { axisWord, countsSaid, nearestPlace, placeSaid, spoken } from './words'

const line = (steps: number[], values: number[], more: Partial<Line> = {}): Line => ({
    name: 'loss',
    label: 'loss',
    colour: '#000000',
    steps,
    values,
    ...more,
})
const view = (more: Partial<View> = {}): View => ({
    window: [0, 10],
    axis: STEPS,
    columns: 100,
    height: 200,
    log: false,
    ...more,
})
const spec = { title: 'Loss', unit: 'nats', lines: [] }

describe('scales', () => {
    it('have round ticks', () => {
        expect(roundStep(10, 5)).toBe(2)
        expect(roundStep(0.8, 5)).toBeCloseTo(0.2)
        expect(valueScale(0, 9.7, 5).ticks).toEqual([0, 2, 4, 6, 8, 10])
        expect(valueScale(2.1, 2.3, 3).ticks.length).toBeGreaterThan(1)
        expect(valueScale(0, 0.45, 2).ticks.length).toBeGreaterThan(1)
    })
    it('have room where there is no value, or one', () => {
        for (const scale of [valueScale(Infinity, -Infinity, 4), valueScale(3, 3, 4), valueScale(0, 0, 4)]) {
            expect(scale.max).toBeGreaterThan(scale.min)
            expect(scale.ticks.length).toBeGreaterThan(1)
        }
        expect(logScale(0.5, 0.5, 4).ticks.length).toBeGreaterThan(1)
        expect(stepScale(5, 6, 4).ticks).toEqual([5, 6])
    })
    it('of logarithms name the value, not its logarithm', () => {
        const { ticks, label } = logScale(0, 3, 5)
        expect(ticks.map(label)).toContain('100')
        const narrow = logScale(Math.log10(2.1), Math.log10(2.4), 4)
        expect(narrow.ticks.length).toBeGreaterThan(1)
        expect(narrow.ticks.map(narrow.label)).toContain('2.2')
    })
    it('write ticks shortly', () => {
        expect(tickText(0, 1)).toBe('0')
        expect(tickText(2.5, 0.5)).toBe('2.5')
        expect(tickText(500_000_000, 1e8)).toBe('500 M')
        expect(tickText(0.0002, 0.0001)).toBe('2e−4')
        expect(tickText(-3, 1)).toBe('−3')
    })
    it('of time', () => {
        expect(elapsed(41)).toBe('0:41 min')
        expect(elapsed(3727)).toBe('1:02:07 h')
        expect(timeScale(0, 600, 5).ticks).toEqual([0, 120, 240, 360, 480, 600])
        expect(timeScale(0, 0.5, 5).ticks.length).toBeGreaterThan(2)
    })
})

describe('what is drawn', () => {
    it('marks what has no place, and counts it', () => {
        const one = line([0, 1, 2, 3, 4], [1, NaN, Infinity, -Infinity, 0])
        const prepared = prepare(spec, [one], view({ log: true }))
        expect(prepared.lines[0]!.odd.map((odd) => odd.kind)).toEqual(['nan', 'above', 'below', 'below'])
        expect(prepared.counts).toMatchObject({ nan: 1, infinite: 2, notPositive: 1 })
    })
    it('fits the range to the window, references and intervals, not to what is outside', () => {
        const one = line([0, 1, 2, 90], [1, 2, 3, 1000], { low: [0, 1, 2, 0], high: [2, 3, 8, 0] })
        const { y } = prepare({ ...spec, references: [{ value: 9, label: 'before' }] }, [one], view())
        expect(y.max).toBeLessThan(12)
        expect(y.max).toBeGreaterThan(9)
    })
    it('survives no lines, no points, one point and one step', () => {
        expect(prepare(spec, [], view()).lines).toEqual([])
        expect(prepare(spec, [line([], [])], view()).lines[0]!.xy.length).toBe(0)
        const single = prepare(spec, [line([3], [7])], view({ window: [3, 3] }))
        expect([...single.lines[0]!.xy]).toEqual([3, 7])
        expect(single.x.max).toBeGreaterThan(single.x.min)
    })
    it('stands on the time axis where the clock says', () => {
        const axis = timeAxis([0, 10], [100, 120])
        expect([...prepare(spec, [line([0, 5], [1, 2])], view({ axis })).lines[0]!.xy]).toEqual([0, 1, 10, 2])
        expect(axis.stepAt(axis.at(7))).toBeCloseTo(7)
        expect(timeAxis([], []).at(4)).toBe(4)
    })
    it('is said in words', () => {
        const { counts } = prepare(spec, [line([0, 1], [1, 2], { total: 1000 })], view())
        expect(countsSaid(counts, false)).toBe('2 of 1,000 points, extremes kept')
        const all = prepare(spec, [line([0, 1], [1, NaN], { total: 2 })], view()).counts
        expect(countsSaid(all, true)).toBe('exact: 2 points · 1 NaN (▲ below)')
        expect(spoken({ ...spec, lines: [line([0, 5], [1, 2.5])] }, STEPS, 7)).toBe('step 7, loss 2.500')
    })
    it('of where one looks are those of the axis, whatever it is', () => {
        const time = timeAxis([0, 10], [100, 200])
        expect([placeSaid({}, STEPS, 1200), placeSaid({}, time, 5)]).toEqual(['step 1,200', '0:50 min'])
        const said = [CYCLE, CYCLE_FROM_BASELINE, CYCLES_SINCE, STEPS_SINCE_PRUNING, HEADS_REMOVED].map(
            (own) => [0, 1, 20.84].map((at) => placeSaid({ own }, STEPS, at)),
        )
        expect(said).toEqual([
            ['cycle 0', 'cycle 1', 'cycle 21'],
            ['the baseline', 'cycle 1', 'cycle 21'],
            ['after 0 cycles', 'after 1 cycle', 'after 21 cycles'],
            ['after 0 steps', 'after 1 step', 'after 21 steps'],
            ['0.0 % removed', '1.0 % removed', '20.8 % removed'],
        ])
        expect([axisWord({ own: CYCLE }, STEPS), axisWord({}, STEPS), axisWord({}, time)]).toEqual([
            'cycle',
            'step',
            'time since start',
        ])
    })
    it('go to the nearest place that has a value', () => {
        const lines = [line([1, 2, 3], [1, 1, 1]), line([0, 4.5], [1, 1])]
        expect([-3, 1.4, 1.6, 3.9, 9].map((x) => nearestPlace(lines, x))).toEqual([0, 1, 2, 4.5, 4.5])
        expect(nearestPlace([], 1)).toBeNull()
    })
})

describe('tables', () => {
    it('join lines by step, in full precision', () => {
        const rows = lineTable([
            line([0, 1, 1], [0.1 + 0.2, 1, 2]),
            line([1, 3], [5, NaN], { label: 'other' }),
        ])
        expect(rows).toEqual([
            ['step', 'loss', 'other'],
            [0, 0.30000000000000004, null],
            [1, 1, 5],
            [1, 2, null],
            [3, null, NaN],
        ])
        expect(csv(rows).split('\r\n')[1]).toBe('0,0.30000000000000004,')
    })
    it('quote what needs it, and hold no formula', () => {
        expect(field('a,"b"')).toBe('"a,""b"""')
        expect(field('=1+1')).toBe("'=1+1")
        expect(fileName('My run: Loss / step', 'csv')).toBe('my-run-loss-step.csv')
        expect(fileName('…', 'png')).toBe('chart.png')
    })
})
