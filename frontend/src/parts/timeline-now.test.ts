import { expect, it } from 'vitest'
import type { Curve, Curves, Series, Timeline } from '../model/types'
import { timelineNow } from './timeline-now'

const series = (name: string, first: number, last: number): Series => {
    const steps = Float64Array.from({ length: last - first + 1 }, (_, at) => first + at)
    const [count] = [steps.length]
    return {
        name,
        total: count,
        steps: { data: steps, shape: [count] },
        values: { data: steps, shape: [count] },
    }
}
const curve = (name: string, last: number): Curve => ({
    ...series(name, 0, last),
    label: '',
    unit: '',
    group: '',
})
const curves = (...all: Curve[]): Curves => ({
    series: all,
    clock: {
        steps: { data: new Float64Array(), shape: [0] },
        seconds: { data: new Float64Array(), shape: [0] },
    },
    exact: true,
})
const timeline: Timeline = {
    spans: [],
    marks: [{ step: 20, kind: 'pruned', label: '', cycle: 1, short: '' }],
    boundaries: [],
    first: 0,
    last: 30,
    series: [series('loss', 0, 30)],
    smooth: [series('a', 0, 20), series('b', 21, 30)],
}

it('is the timeline itself where nothing is newer', () => {
    expect(timelineNow(timeline, undefined)).toBe(timeline)
    expect(timelineNow(timeline, curves(curve('loss', 30)))).toBe(timeline)
})
it('takes over what arrived, and smooths anew after the last decision only', () => {
    const now = timelineNow(timeline, curves(curve('loss', 60), curve('validation_loss', 55)))
    expect(now.series.map((one) => one.steps.data.at(-1))).toEqual([60, 55])
    expect(now.smooth.map((one) => [one.steps.data[0], one.steps.data.at(-1)])).toEqual([
        [0, 20],
        [21, 60],
    ])
})
it('shows the loss before any section of it was made', () => {
    const empty = { ...timeline, marks: [], series: [], smooth: [] }
    expect(timelineNow(empty, curves(curve('loss', 3))).series).toHaveLength(1)
})
