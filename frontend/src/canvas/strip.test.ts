import { expect, it } from 'vitest'
import { scale, stripOf, stripPlan, yOf } from './strip'

it('orders heads that are there, lowest first, and counts those without a score', () => {
    const strip = stripOf([3, 1, NaN, 2, 9], [1, 1, 1, 2, 0], 1.5)
    expect(strip.order).toEqual([1, 3, 0])
    expect(strip.unknown).toBe(1)
    expect([strip.low, strip.high]).toEqual([0, 3])
})
it('keeps infinities inside, and zero or a threshold in sight', () => {
    const strip = stripOf([-Infinity, -2, Infinity, 1], [1, 1, 1, 1], 5)
    expect([...strip.values]).toEqual([-2, -2, 1, 5])
    expect([strip.low, strip.high]).toEqual([-2, 5])
})
it('has a place for nothing, one head and equal scores', () => {
    for (const scores of [[], [0], [NaN], [4, 4]]) {
        const strip = stripOf(
            scores,
            scores.map(() => 1),
            null,
        )
        const plan = stripPlan(strip, 300, 200)
        expect(strip.high).toBeGreaterThan(strip.low)
        expect(Number.isFinite(yOf(strip, plan, strip.high))).toBe(true)
        expect(plan.slot).toBeLessThanOrEqual(48)
    }
})
it('has round values on its axis', () => {
    expect(scale(0, 0.08)).toEqual([0, 0.02, 0.04, 0.06, 0.08])
    expect(scale(2, 2)).toEqual([2])
    expect(scale(-1, 1).includes(0)).toBe(true)
})
