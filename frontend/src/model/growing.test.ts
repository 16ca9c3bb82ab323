import { expect, it } from 'vitest'
import { GrowingCurve } from './growing'
import type { Curve } from './types'

const curve = (steps: number[], values: number[], total = steps.length): Curve => ({
    name: 'loss',
    label: 'training loss',
    unit: 'nats per token',
    group: 'Loss',
    total,
    steps: { data: Int32Array.from(steps), shape: [steps.length] },
    values: { data: Float64Array.from(values), shape: [values.length] },
})

it('appends to what was there, and leaves earlier views as they were', () => {
    const growing = new GrowingCurve(curve([1, 2], [0.5, NaN], 10))
    const before = growing.view()
    growing.push(3, 7)
    const after = growing.view()
    expect([...before.steps.data]).toEqual([1, 2])
    expect([...after.steps.data]).toEqual([1, 2, 3])
    expect([...after.values.data]).toEqual([0.5, NaN, 7])
    expect(after.total).toBe(11)
    expect(after.label).toBe('training loss')
})

it('starts from nothing', () => {
    const growing = new GrowingCurve(curve([], []))
    expect(growing.end).toEqual([-Infinity, NaN])
    growing.push(0, 1)
    expect([...growing.view().steps.data]).toEqual([0])
})

it('stays small and keeps the one spike while a million points come', () => {
    const growing = new GrowingCurve(curve([], []))
    for (let step = 0; step < 1_000_000; step++)
        growing.push(step, step === 123_456 ? 99 : Math.sin(step / 50))
    const { steps, values, total } = growing.view()
    expect(total).toBe(1_000_000)
    expect(values.data.length).toBeLessThan(60_000)
    expect(steps.data[values.data.indexOf(99)]).toBe(123_456)
    expect(steps.data.at(-1)).toBe(999_999)
    expect((steps.data as Float64Array).every((step, at, all) => at === 0 || step > all[at - 1]!)).toBe(true)
})
