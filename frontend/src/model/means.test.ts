import { expect, it } from 'vitest'
import { GrowingCurve } from './growing'
import { GrowingMeans } from './means'
import type { Curve } from './types'

const packed = (...data: number[]) => ({ data: Float64Array.from(data), shape: [data.length] })

it('adds means of what comes to those that were there', () => {
    const means = new GrowingMeans({ width: 3, steps: packed(1), values: packed(5) })
    const first = means.view()
    means.push(3, 1)
    means.push(4, NaN)
    expect(means.view()).toBe(first)
    means.push(5, 3)
    expect([...means.view().steps.data]).toEqual([1, 4])
    expect([...means.view().values.data]).toEqual([5, 2])
    for (const step of [6, 7, 8]) means.push(step, NaN)
    expect(means.view().values.data[2]).toBeNaN()
})
it('stays small', () => {
    const means = GrowingMeans.of(
        Array.from({ length: 100_000 }, (_, at) => at),
        Array.from({ length: 100_000 }, (_, at) => (at % 2 ? 0 : 2)),
        2,
    ).view()
    expect(means.steps.data.length).toBeLessThanOrEqual(4000)
    expect(means.width).toBe(32)
    expect(Array.from(means.values.data).every((value) => value === 1)).toBe(true)
})
it('a curve that grew until points had to go keeps its true means', () => {
    const none = packed()
    const start: Curve = { name: 'loss', label: '', unit: '', group: '', total: 0, steps: none, values: none }
    const curve = new GrowingCurve(start)
    for (let step = 0; step < 60_000; step++) curve.push(step, step % 100 ? 1 : 101)
    const { total, steps, means } = curve.view()
    expect(total).toBeGreaterThan(steps.data.length)
    const mean =
        Array.from(means!.values.data).reduce((sum, value) => sum + value, 0) / means!.values.data.length
    expect(mean).toBeCloseTo(2, 1)
    expect(means!.steps.data.at(-1)).toBeGreaterThan(59_000)
})
