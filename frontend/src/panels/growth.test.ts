import { describe, expect, it } from 'vitest'
import type { Growth, GrowthRefused, GrowthRound } from '../model/types'
import {
    evidenceOf,
    growthHeadline,
    refusedColumns,
    returned,
    roundColumns,
    standingSpec,
    survivalSpec,
    triedSpec,
    type Return,
} from './growth'

const ints = (...values: number[]) => ({ data: Int32Array.from(values), shape: [values.length] })
const floats = (...values: number[]) => ({ data: Float64Array.from(values), shape: [values.length] })
const back: Return = {
    step: 20,
    cycle: 2,
    origin: 'regrown',
    layer: 0,
    head: 1,
    name: 'L0H1#2',
    incarnation: 2,
    strategy: 'benefit',
    reason: '',
    score: 0.02,
    low: 0.01,
    high: 0.03,
    gain: 0.004,
    gain_low: 0.001,
    gain_high: 0.007,
    loss_before: 2,
    loss_after: null,
    pruned_step: 10,
    pruned_again_step: null,
    cycles: 1,
}
const out: GrowthRefused = {
    step: 20,
    cycle: 2,
    layer: 0,
    head: 2,
    name: 'L0H2',
    reason: 'not surely a gain',
    score: 0.01,
    low: null,
    high: null,
    gain: null,
    gain_low: null,
    gain_high: null,
}
const round: GrowthRound = {
    cycle: 2,
    step: 20,
    pruned: 2,
    gone_again: 0,
    regrown: 1,
    added: 0,
    active: 5,
    churn: 0.5,
    considered: 3,
    tried: 2,
    allowed: 1,
    worth: 0.003,
    rule: '',
}
const growth = (more: Partial<Growth> = {}): Growth => ({
    returns: [back],
    refused: [out],
    refused_total: 1,
    rounds: [round],
    survival: [],
    criterion: 'gradient',
    standings: [],
    typical: null,
    lasting: 1,
    empty: null,
    ...more,
})

describe('the headline', () => {
    it('counts what came and what stayed', () => {
        expect(growthHeadline(growth())).toBe('1 head grew back; it is still there.')
        const added: Return = { ...back, origin: 'added', pruned_again_step: 30 }
        expect(growthHeadline(growth({ returns: [back, added] }))).toBe(
            '1 head grew back, 1 was added; 1 of them was pruned again.',
        )
    })
    it('says that none came although some were weighed', () =>
        expect(growthHeadline(growth({ returns: [], refused_total: 3 }))).toContain('of 3 considered'))
})

describe('each return', () => {
    it('has its evidence, how long it was gone and how it did since', () => {
        const standings = [
            {
                layer: 0,
                head: 1,
                name: 'L0H1#2',
                origin: 'regrown',
                came_step: 20,
                steps: ints(30),
                since: ints(1),
                ratio: floats(1.5),
                rank: floats(0.75),
            },
        ]
        const [row] = returned(growth({ standings }), 50)
        expect(row).toMatchObject({ absent: '10 steps', loss: '', since: 'active for 30 steps so far' })
        expect(row!.evidence).toContain('gain 0.00400 (0.00100 to 0.00700)')
        expect(row!.standing).toBe('1.5× the median survivor, above 75 % of the active heads at step 30')
    })
    it('says nothing of what was not recorded', () => {
        const nothing = { ...out, score: null }
        expect(evidenceOf(nothing)).toBe('')
        expect(returned(growth(), 50)[0]!.standing).toBe('')
        expect(refusedColumns.find((one) => one.key === 'gain')!.text!(out)).toBe('not tried')
    })
})

describe('the charts', () => {
    it('hold what was tried against the weakest active heads', () => {
        const worse = { ...out, gain: 0.001, gain_low: -0.002, gain_high: 0.004 }
        const spec = triedSpec(growth({ refused: [worse, { ...out, name: 'L0H3' }] }), 2)!
        expect(spec.bars.map((one) => one.label)).toEqual(['L0H1#2', 'L0H2'])
        expect(spec.reference?.value).toBe(0.003)
        expect(triedSpec(growth(), 3)).toBeNull()
    })
    it('give survival as a share of those that could have lasted so long', () => {
        const survival = [{ origin: 'regrown', cycles: ints(0, 1), at_risk: ints(4, 2), alive: ints(4, 1) }]
        const spec = survivalSpec(growth({ survival }))
        expect(Array.from(spec.lines[0]!.values)).toEqual([1, 0.5])
        expect(spec.lines[0]!.label).toBe('came back (4 heads)')
    })
    it('stand without anything', () => {
        expect(standingSpec(growth(), null).lines).toEqual([])
        expect(survivalSpec(growth()).lines).toEqual([])
    })
})

it('rounds have the columns in which something is', () => {
    const keys = roundColumns([round]).map((one) => one.key)
    expect(keys).toContain('worth')
    expect(keys).not.toContain('added')
})
