import { describe, expect, it } from 'vitest'
import { exponentialMean, runningMean, smoothed } from './smooth'

describe('running mean', () => {
    it('is centred, and narrower at the ends', () => {
        expect([...runningMean([0, 3, 6, 3, 0], 3)]).toEqual([0, 3, 4, 3, 0])
    })
    it('leaves gaps where they are and out of every mean', () => {
        expect([...runningMean([1, NaN, 3, Infinity], 3)]).toEqual([1, NaN, 3, NaN])
    })
    it('keeps small differences on a large offset', () => {
        expect(runningMean([1e9 + 1, 1e9 + 2, 1e9 + 3], 3)[1]).toBe(1e9 + 2)
    })
    it('of nothing, of one value, over one point', () => {
        expect(runningMean([], 5).length).toBe(0)
        expect([...runningMean([2], 5)]).toEqual([2])
        expect([...runningMean([1, 5, 2], 1)]).toEqual([1, 5, 2])
    })
})

it('the exponential mean of a constant is that constant from the start', () => {
    for (const value of exponentialMean([4, 4, 4, NaN, 4], 10))
        expect(value === 4 || Number.isNaN(value)).toBe(true)
})

it('a jump at a cut stays a jump', () => {
    expect([...smoothed([1, 1, 1, 9, 9, 9], { kind: 'mean', width: 5 }, [3])]).toEqual([1, 1, 1, 9, 9, 9])
    expect(smoothed([1, 1, 1, 9, 9, 9], { kind: 'mean', width: 5 })[2]).toBeGreaterThan(1)
})
