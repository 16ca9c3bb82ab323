import { describe, expect, it } from 'vitest'
import { CHANGE, IMPORTANCE } from '../model/colour'
import { decision, HEADS } from '../model/heads.sample'
import type { PruningDecision, ScoreMap } from '../model/types'
import { chapters, factsOf, readings, scoreAgainst, scoreSpec, stateSentence } from '../parts/head-drawer'
import { lifeOf, statesAt } from '../model/heads'
import { domains, shownMap, type Round } from './analysis'
import { chosenCount, headline, layerRows, lossSentence, reasons, told } from './pruning'

const pruning: PruningDecision = {
    step: 10,
    cycle: 1,
    strategy: 'gradient',
    level: 0.5,
    score: { data: Float64Array.of(3, 1, NaN), shape: [1, 3] },
    score_label: 'Gradient',
    score_unit: '',
    threshold: 1,
    chosen: { data: Uint8Array.of(0, 1, 0), shape: [1, 3] },
    protected: { data: new Uint8Array(3), shape: [1, 3] },
    states: { data: Int8Array.of(1, 1, -1), shape: [1, 3] },
    loss_before: 2,
    loss_after: 2.5,
}

describe('pruning', () => {
    it('shows each layer before and after', () => {
        expect(layerRows(pruning)).toEqual([{ layer: 0, before: 2, after: 1, gone: [1], cells: [1, 2, -1] }])
        expect(chosenCount(pruning)).toBe(1)
        expect(headline(pruning)).toBe('1 of 2 active heads pruned by gradient at level 0.50.')
    })
    it('finds its reasons in the history', () => {
        const history = told(HEADS, pruning, 0)
        expect(history?.kind).toBe('pruned')
        expect(reasons(pruning, history)[0]).toMatchObject({
            name: 'L0H1',
            score: 1,
            rank: null,
            reason: 'lowest',
        })
        expect(told(HEADS, { ...pruning, step: 99 }, 0)).toBeNull()
        expect(told(undefined, pruning, 0)).toBeNull()
        expect(reasons({ ...pruning, score: null }, null)[0]).toMatchObject({ score: null, reason: '' })
    })
    it('says what is known of the loss', () => {
        expect(lossSentence(2, 2.5)).toContain('+0.500')
        expect(lossSentence(2, NaN)).toContain('NaN')
        expect(lossSentence(null, 2)).toContain('after')
        expect(lossSentence(null, null)).toContain('not recorded')
    })
})

describe('analysis', () => {
    const map = (values: number[], pruned = [0, 0, 0]): ScoreMap => ({
        name: 'gradient',
        label: 'Gradient',
        unit: '',
        values: { data: Float64Array.from(values), shape: [1, 3] },
        pruned: { data: Uint8Array.from(pruned), shape: [1, 3] },
    })
    const round = (step: number, one: ScoreMap): Round => ({ step, cycle: 1, sequences: 8, maps: [one] })
    const first = round(5, map([3, 1, NaN]))
    const second = round(15, map([6, NaN, 2], [0, 1, 0]))
    it('has one domain for all rounds', () => {
        expect(domains([first, second]).get('gradient')).toEqual([1, 6])
        expect(domains([round(1, map([NaN, NaN, NaN]))]).size).toBe(0)
    })
    it('shows values, or what changed', () => {
        const values = shownMap(second.maps[0]!, second, null, [1, 6], HEADS)!
        expect(values.cells.ramp).toBe(IMPORTANCE)
        expect([...(values.cells.states as Int8Array)]).toEqual([1, 0, 1])
        const change = shownMap(second.maps[0]!, second, first, [1, 6], HEADS)!
        expect(change.cells.ramp).toBe(CHANGE)
        expect([change.low, change.high]).toEqual([-3, 3])
        expect([...(change.cells.places as Int16Array)]).toEqual([255, -1, -1])
        expect(shownMap(second.maps[0]!, second, { ...first, maps: [] }, undefined, HEADS)).toBeNull()
    })
})

describe('the drawer', () => {
    it('says where a head stands', () => {
        const life = lifeOf(HEADS, 0, 1, 0)
        expect(stateSentence(life, 5)).toBe('active, never pruned so far')
        expect(stateSentence(life, 15)).toBe('pruned since step 10')
        expect(stateSentence(life, 25)).toBe('active, regrown since step 20')
        expect(stateSentence(lifeOf(HEADS, 0, 2, 0), 5)).toBe('does not exist yet')
        expect(chapters(HEADS, life, 0, 1).map((one) => one.title)).toEqual([
            'Active from the start',
            'Pruned by gradient, cycle 1',
            'Grown back by gradient, cycle 1, as L0H1#2',
        ])
    })
    it('says why a head went', () => {
        const one = decision('pruned', 10, [0, 1], {
            score: { data: Float64Array.of(3, 1, NaN), shape: [1, 3] },
            rank: { data: Int32Array.of(1, 0, -1), shape: [1, 3] },
            threshold: 1,
            score_label: 'Gradient',
            rule: 'lowest first',
            seed: 7,
            loss_before: 2,
            loss_after: 2.5,
        })
        expect(factsOf(one, 1)).toEqual([
            'lowest of 2, Gradient 1.00 = threshold 1.00',
            'rule: lowest first',
            'seed 7',
            'loss 2.000 → 2.500 (+0.500)',
        ])
        expect(scoreAgainst(one, 2)).toBe('Gradient: not measured')
        expect(factsOf(decision('pruned', 10, [0, 1]), 1)).toEqual([])
    })
    it('reads every criterion, and draws its measurements', () => {
        const criterion = HEADS.criteria[0]!
        expect(readings([criterion], [0], statesAt(HEADS, 5), 1)).toMatchObject([
            { value: 1, rank: 'lowest of 2' },
        ])
        expect(readings([criterion], [-1], statesAt(HEADS, 0), 1)).toMatchObject([{ value: NaN, rank: '' }])
        expect(scoreSpec(HEADS, criterion, 1, false).lines[0]).toMatchObject({ steps: [5], values: [1] })
        expect(scoreSpec(HEADS, criterion, 0, true).lines[0]).toMatchObject({
            steps: [5, 15],
            values: [1, 0.5],
        })
    })
})
