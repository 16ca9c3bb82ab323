import { expect, it } from 'vitest'
import {
    CHANGE,
    cssOf,
    domainOf,
    fraction,
    IMPORTANCE,
    inkOn,
    pixel,
    place,
    reach,
    WEIGHT,
    WEIGHT_CHANGE,
} from './colour'
import { CIVIDIS } from './palette'

it('places values in their domain, NaN nowhere', () => {
    expect([1, 2, 3, -5, 9].map((value) => fraction(value, 1, 3))).toEqual([0, 0.5, 1, 0, 1])
    expect(place(NaN, 0, 1)).toBe(-1)
    expect(place(Infinity, 0, 1)).toBe(255)
    expect(place(-Infinity, 0, 1)).toBe(0)
})
it('puts equal values in the middle', () => {
    expect(fraction(4, 4, 4)).toBe(0.5)
    expect(fraction(4, NaN, NaN)).toBe(0.5)
})
it('finds the domain of finite numbers', () => {
    expect(domainOf([NaN, 2, -1, Infinity])).toEqual([-1, 2])
    expect(domainOf([NaN])).toBeNull()
    expect(domainOf([])).toBeNull()
    expect(reach([-3, 2, NaN])).toBe(3)
    expect(reach([])).toBe(0)
})
it('runs from the first to the last colour of cividis', () => {
    expect(cssOf(IMPORTANCE[0]!)).toBe(CIVIDIS[0]!.toLowerCase())
    expect(cssOf(IMPORTANCE[255]!)).toBe(CIVIDIS.at(-1)!.toLowerCase())
    expect(cssOf(pixel('#123456'))).toBe('#123456')
})
it('has white for no weight and about white for no difference', () => {
    expect(cssOf(WEIGHT[0]!)).toBe('#ffffff')
    for (const at of [127, 128]) expect(CHANGE[at]! & 255).toBeGreaterThan(250)
    for (const at of [0, 255]) expect(WEIGHT_CHANGE[at]).toBe(CHANGE[at])
})
it('writes dark on light and light on dark', () => {
    expect(inkOn(pixel('#00224E'))).toBe('#ffffff')
    expect(inkOn(pixel('#E1CC55'))).toBe('#000000')
})
