import { describe, expect, it } from 'vitest'
import {
    difference,
    drift,
    driftBetween,
    looksAt,
    patternOf,
    scoreLine,
    takeLabel,
    tokenText,
} from './attention'
import type { AttentionTake } from './types'

const NONE = { data: new Float32Array(), shape: [0] }
const take = (maps: number[][], heads: number[], more: Partial<AttentionTake> = {}): AttentionTake => ({
    step: 0,
    cycle: 0,
    phase: '',
    model: 'baseline',
    heads: { data: Int32Array.from(heads), shape: [heads.length / 2, 2] },
    maps: { data: Uint8Array.from(maps.flat()), shape: [maps.length, 2, 2] },
    error: 0,
    first_token_mass: NONE,
    previous_token: NONE,
    induction: NONE,
    ...more,
})
const SAME = [254, 0, 127, 127]
const MOVED = [254, 0, 254, 0]
const GONE = [255, 255, 255, 255]

/** By the definition, with floating-point weights. */
function slow(a: number[], b: number[]): number {
    let sum = 0
    for (let row = 0; row < 2; row++)
        for (let column = 0; column < 2; column++) {
            const [p, q] = [a[2 * row + column]! / 254, b[2 * row + column]! / 254]
            const middle = (p + q) / 2
            sum += (p ? (p * Math.log2(p / middle)) / 2 : 0) + (q ? (q * Math.log2(q / middle)) / 2 : 0)
        }
    return sum / 2
}

describe('patterns', () => {
    const both = take([SAME, GONE], [0, 0, 0, 1])
    it('are found by head, told apart from pruned and unseen', () => {
        expect([...(patternOf(both, 0, 0) as Uint8Array)]).toEqual(SAME)
        expect(patternOf(both, 0, 1)).toBe('pruned')
        expect(patternOf(both, 3, 3)).toBe('unseen')
    })
    it('differ from −1 to 1', () => {
        const found = difference(Uint8Array.from(MOVED), Uint8Array.from(SAME))
        expect([...found.values]).toEqual([0, 0, 0.5, -0.5])
    })
    it('of different length are compared on the shorter one', () => {
        const long = Uint8Array.from([254, 0, 0, 127, 127, 0, 85, 85, 84])
        expect(difference(long, Uint8Array.from(SAME)).side).toBe(2)
        expect(drift(long, Uint8Array.from(SAME))).toBe(0)
    })
})

describe('drift', () => {
    it('is 0 for the same, 1 for nothing in common, and as defined between', () => {
        const [a, b] = [Uint8Array.from(SAME), Uint8Array.from(MOVED)]
        expect(drift(a, a)).toBe(0)
        expect(drift(Uint8Array.from([254]), Uint8Array.from([0]))).toBeCloseTo(0.5) // one row, half of it empty
        expect(drift(a, b)).toBeCloseTo(slow(SAME, MOVED), 12)
        expect(drift(a, b)).toBe(drift(b, a))
    })
    it('is unknown where a head has no pattern', () => {
        expect(drift('pruned', Uint8Array.from(SAME))).toBeNull()
        expect(drift('unseen', 'unseen')).toBeNull()
        expect(drift(Uint8Array.from(GONE), Uint8Array.from(SAME))).toBeNull()
    })
    it('is the record’s own figure to the first take where there is one', () => {
        const takes = [
            take([SAME], [0, 0]),
            take([MOVED], [0, 0], { drift: { data: Float64Array.of(0.25), shape: [1] } }),
        ]
        expect(driftBetween(takes, 0, 1, 0, 0)).toBe(0.25)
        expect(driftBetween(takes, 1, 0, 0, 0)).toBeCloseTo(slow(SAME, MOVED), 12)
        expect(driftBetween(takes, 0, 7, 0, 0)).toBeNull()
    })
})

describe('looks', () => {
    const mass = (...values: number[]) => ({ data: Float32Array.from(values), shape: [values.length] })
    const first = { first_token_mass: mass(0.25, 0.75, NaN) }
    const later = { step: 9, cycle: 1, model: 'pruned', first_token_mass: mass(0.5, NaN, 0.25) }
    const heads = [0, 0, 0, 1, 0, 2]
    const maps = [SAME, SAME, SAME]
    const prompts = [
        { prompt: 'a', tokens: [], takes: [take(maps, heads, first), take(maps, heads, later)] },
        {
            prompt: 'b',
            tokens: [],
            takes: [
                take(maps, heads, { ...later, model: 'control', first_token_mass: mass(0, 0, 0) }),
                take(maps, heads, { ...later, first_token_mass: mass(1, NaN, 0.75) }),
            ],
        },
    ]
    it('are each once, the control’s beside the model’s own', () => {
        expect(looksAt(prompts, false).map((one) => one.model)).toEqual(['baseline', 'pruned'])
        expect(looksAt(prompts, true).map((one) => one.model)).toEqual(['baseline', 'pruned', 'control'])
    })
    it('give a head’s score as the mean over prompts, and the median of all', () => {
        const own = scoreLine(prompts, 'first_token_mass', { layer: 0, head: 0 })
        expect(own).toEqual({ cycles: [0, 1], values: [0.25, 0.75] })
        expect(scoreLine(prompts, 'first_token_mass', null)).toEqual({ cycles: [0, 1], values: [0.5, 0.625] })
        expect(scoreLine(prompts, 'first_token_mass', { layer: 0, head: 0 }, true).values).toEqual([0])
        expect(scoreLine(prompts, 'induction', null).values).toEqual([])
    })
})

it('labels takes and tokens', () => {
    expect(takeLabel(take([SAME], [0, 0]))).toBe('baseline')
    expect(takeLabel(take([SAME], [0, 0], { cycle: 2 }))).toBe('cycle 2')
    expect(tokenText('Ġdef\n')).toBe('␣def↵')
})
