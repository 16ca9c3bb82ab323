import { expect, it } from 'vitest'
import { asKnown } from './decisions'
import type { Floats } from './types'

const floats = (...data: number[]): Floats => ({ data: Float32Array.from(data), shape: [1, data.length] })

it('turns an entropy back that was recorded as its negative', () => {
    const one = { strategy: 'entropy', score: floats(-0.75, NaN, 0, -0.5), threshold: -0.625 }
    const shown = asKnown(one)
    expect([...shown.score!.data]).toEqual([0.75, NaN, 0, 0.5])
    expect([shown.threshold, shown.highFirst]).toEqual([0.625, true])
    expect(asKnown(one)).toBe(shown)
    expect(one.score.data[0]).toBe(-0.75)
})
it('leaves what was recorded as people know it', () => {
    const entropy = { strategy: 'entropy', score: floats(0.5, 0.25), threshold: 0.25 }
    expect([...asKnown(entropy).score!.data]).toEqual([0.5, 0.25])
    const benefit = { strategy: 'fisher', score: floats(-1, -2), threshold: null }
    expect(asKnown(benefit)).toEqual({ ...benefit, highFirst: false })
    const nothing = { strategy: 'entropy', score: null, threshold: null }
    expect(asKnown(nothing)).toEqual({ ...nothing, highFirst: true })
})
