import { describe, expect, it } from 'vitest'
import type { Curves, Warmup } from './types'
import { warmupNow, warmupSpec } from './warmup'

const floats = (values: number[]) => ({ data: Float64Array.from(values), shape: [values.length] })
const curves = (steps: number[], values: number[]): Curves => {
    const data = { name: 'loss', steps: floats(steps), values: floats(values), total: steps.length }
    return {
        series: [{ ...data, label: 'loss', unit: 'nats', group: 'Loss' }],
        clock: { steps: floats([]), seconds: floats([]) },
        exact: true,
    }
}
const nothing: Warmup = {
    raw: null,
    smooth: null,
    validation: null,
    window: 0,
    stable: [],
    first: 0,
    last: 0,
    end: '',
    empty: 'No warm-up was recorded.',
}

describe('warm-up while it runs', () => {
    it('begins with the first points, before the server has a view of it', () => {
        const now = warmupNow(nothing, curves([0, 1], [3, 2]), 1)
        expect(now.empty).toBeNull()
        expect(now.end).toBe('still running')
        expect(now.smooth).toBeNull()
        expect(warmupSpec(now)?.lines.map((line) => line.label)).toEqual(['training loss'])
    })
    it('is smoothed from a handful of points on, NaN left out', () => {
        const now = warmupNow(nothing, curves([0, 1, 2, 3, 4, 5, 6, 7, 8], [3, NaN, 1, 1, 1, 1, 1, 1, 1]), 8)
        expect(now.window).toBe(3)
        expect(now.smooth?.values.data[1]).toBeNaN()
        expect(now.smooth?.values.data[3]).toBe(1)
    })
    it('shows recorded means where the points that are left are the extreme ones', () => {
        const whole = curves([0, 9, 18], [9, 0, 9])
        const means = { width: 10, steps: floats([5, 15]), values: floats([4, 5]) }
        const thinned = { ...whole, series: [{ ...whole.series[0]!, total: 20, means }] }
        const now = warmupNow(nothing, thinned, 19)
        expect(Array.from(now.smooth!.values.data)).toEqual([4, 5])
        expect(now.window).toBe(10)
        const bare = { ...whole, series: [{ ...whole.series[0]!, total: 20 }] }
        expect(warmupNow(nothing, bare, 19).smooth).toBeNull()
    })
    it('is the view as it is without a curve', () => {
        expect(warmupNow(nothing, undefined, 0)).toBe(nothing)
        expect(warmupSpec(nothing)).toBeNull()
    })
})
