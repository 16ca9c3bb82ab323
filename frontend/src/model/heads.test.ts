import { describe, expect, it } from 'vitest'
import * as h from './heads'
import { EMPTY, HEADS } from './heads.sample'
import { ABSENT, ACTIVE, ADDED, PRUNED, REGROWN } from './types'

describe('looking up a step', () => {
    it('takes the last entry at or before it', () => {
        const steps = [0, 10, 10, 20]
        expect([-1, 0, 9, 10, 25].map((step) => h.lastAt(steps, step))).toEqual([-1, 0, 0, 2, 3])
        expect(h.lastAt([], 5)).toBe(-1)
    })
    it('agrees with a slow search', () => {
        const steps = Array.from({ length: 60 }, (_, at) => Math.floor(at * 1.7))
        for (let step = -2; step < 110; step++)
            expect(h.lastAt(steps, step)).toBe(steps.findLastIndex((one) => one <= step))
    })
    it('says when the first entry is still to come', () => {
        expect(h.shownAt([5], 1)).toEqual({ at: 0, early: true })
        expect(h.shownAt([], 1)).toEqual({ at: -1, early: false })
    })
    it('reads states and scores', () => {
        expect([...h.statesAt(HEADS, 9)]).toEqual([1, 1, -1])
        expect([...h.statesAt(HEADS, 10)]).toEqual([1, 0, -1])
        expect([...h.statesAt(HEADS, 99)]).toEqual([1, 2, 3])
        expect([...h.statesAt(HEADS, -5)]).toEqual([1, 1, -1])
        expect(h.scoreGrid(HEADS.criteria[0]!, -1)).toBeNull()
        expect(h.scoreGrid(HEADS.criteria[0]!, 2)).toBeNull()
        expect([...h.statesAt(EMPTY, 3)]).toEqual([])
    })
})

describe('ranks', () => {
    it('counts only heads that are there and have a number, equal ones alike', () => {
        const { ranks, of } = h.ranksAmong([2, 1, 2, NaN, 0], [ACTIVE, ADDED, ACTIVE, ACTIVE, PRUNED])
        expect([...ranks]).toEqual([1, 0, 1, -1, -1])
        expect(of).toBe(3)
    })
    it('are shares from 0 to 1, the middle for a single head', () => {
        expect([...h.rankShares([3, 1, 2], [1, 1, 1])]).toEqual([1, 0, 0.5])
        expect([...h.rankShares([7], [1])]).toEqual([0.5])
        expect([...h.rankShares([NaN], [1])]).toEqual([NaN])
    })
    it('are said from the nearer end', () => {
        expect(h.rankWords(0, 31)).toBe('lowest of 31')
        expect(h.rankWords(2, 31)).toBe('3rd lowest of 31')
        expect(h.rankWords(29, 31)).toBe('2nd highest of 31')
        expect(h.rankWords(-1, 31)).toBe('')
        expect(h.rankWords(0, 1)).toBe('the only one')
        expect([1, 2, 3, 4, 11, 12, 13, 20, 21, 102, 111].map(h.ordinal).join(' ')).toBe(
            '1st 2nd 3rd 4th 11th 12th 13th 20th 21st 102nd 111th',
        )
    })
})

describe('a life', () => {
    it('begins, is pruned with its reason, and comes back', () => {
        const life = h.lifeOf(HEADS, 0, 1, 0)
        expect(life.map((span) => [span.state, span.first, span.end])).toEqual([
            [ACTIVE, 0, 10],
            [PRUNED, 10, 20],
            [REGROWN, 20, null],
        ])
        expect(life[1]!.reason).toBe('lowest')
    })
    it('may begin absent', () => {
        expect(h.lifeOf(HEADS, 0, 2, 0).map((span) => span.state)).toEqual([ABSENT, ADDED])
    })
    it('goes back with the run, and later lives count on from there', () => {
        const states = {
            steps: { data: Int32Array.from([0, 10, 20, 30]), shape: [4] },
            cycles: { data: Int32Array.from([0, 1, 1, 2]), shape: [4] },
            grids: {
                data: Int8Array.from([...HEADS.states.grids.data, 1, PRUNED, ABSENT]),
                shape: [4, 1, 3],
            },
        }
        const restored = [{ step: 30, cycle: 2, to_cycle: 1, to_step: 10, reason: 'too far' }]
        const heads = { ...HEADS, states, restored }
        const life = h.lifeOf(heads, 0, 1, 0)
        expect(life.map((span) => [span.state, span.first])).toEqual([
            [ACTIVE, 0],
            [PRUNED, 10],
            [REGROWN, 20],
            [PRUNED, 30],
        ])
        expect(life[2]!.end).toBe(30)
        expect(life[3]!.reason).toBe('too far')
        expect([5, 15, 25, 35].map((step) => h.incarnationAt(life, step))).toEqual([1, 1, 2, 1])
        expect(h.lifeOf(heads, 0, 2, 0).at(-1)).toMatchObject({ state: ABSENT, first: 30 })
        expect(h.lifeOf(heads, 0, 0, 0)).toHaveLength(1)
        expect(h.headName(0, 1, 2)).toBe('L0H1#2')
    })
    it('has several decisions at one step', () => {
        expect(h.lastDecisions(HEADS, 25).map((one) => one.kind)).toEqual(['regrown', 'added'])
        expect(h.lastDecisions(HEADS, 5)).toEqual([])
        expect(h.lastDecisions(EMPTY, 5)).toEqual([])
    })
})

it('finds the nearest scores among heads that are there', () => {
    expect(h.alike([1, 5, 2, NaN, 1.5], [1, 1, 1, 1, 0], 0, 2)).toEqual([2, 1])
    expect(h.alike([NaN, 1], [1, 1], 0, 2)).toEqual([])
})

it('moves from event to event', () => {
    const stops = h.stops(HEADS, [{ first_step: 0 }, { first_step: 12 }], 0, 30)
    expect(stops).toEqual([0, 10, 12, 20, 30])
    expect([h.stopAfter(stops, 10), h.stopAfter(stops, 11), h.stopAfter(stops, 30)]).toEqual([12, 12, 30])
    expect([h.stopBefore(stops, 10), h.stopBefore(stops, 11), h.stopBefore(stops, 0)]).toEqual([0, 10, 0])
})

it('ranks a whole criterion once', () => {
    const first = h.rankedCriterion(HEADS, HEADS.criteria[0]!)
    expect([...first.values.data]).toEqual([1, 0, NaN, 0.5, NaN, NaN])
    expect(h.rankedCriterion(HEADS, HEADS.criteria[0]!)).toBe(first)
})

it('ranks of large models have their thousands', () => {
    expect(h.rankWords(1200, 3000)).toBe('1,201st lowest of 3,000')
})
