import { describe, expect, it } from 'vitest'
import {
    chosenSamples,
    commandLine,
    cyclesHeadline,
    figuresOf,
    filteredSettings,
    impactSentence,
    lossPath,
    NO_FILTER,
    recoveredShare,
    recoveryHeadline,
    sentence,
    settingsJson,
    shorten,
    stableWhy,
    warmupHeadline,
    type Sample,
} from './story'
import type { Cycle, Recovery, Stable, Warmup } from './types'

const stable = (more: Partial<Stable> = {}): Stable => ({
    step: 1200,
    first: 1160,
    loss: 1.86,
    slope: -2.1e-4,
    slope_low: -8.3e-4,
    slope_high: 4.1e-4,
    tolerance: 1e-3,
    reason: 'inside ± 5 %',
    phase: 'warmup',
    ...more,
})
const warmup = (more: Partial<Warmup>): Warmup => ({
    raw: null,
    smooth: null,
    validation: null,
    window: 0,
    stable: [],
    first: 0,
    last: 0,
    end: '',
    empty: null,
    ...more,
})
const recovery = (before: number | null, pruned: number | null, after: number | null): Recovery => ({
    cycle: 1,
    first: 0,
    last: 10,
    training: null,
    smooth: null,
    validation: null,
    loss_before: before,
    loss_pruned: pruned,
    loss_after: after,
    recovered: null,
})

describe('warm-up', () => {
    it('says why from slope, interval and tolerance', () => {
        expect(stableWhy(stable())).toBe(
            'Slope −0.00021 per step, 95 % interval −0.00083 to +0.00041: all of it inside the tolerance of ± 0.0010.',
        )
        expect(stableWhy(stable({ slope_high: 2e-3 }))).toContain('not inside')
        expect(stableWhy(stable({ slope: NaN }))).toBe('Inside ±\u00a05\u00a0%.')
        expect(stableWhy(stable({ tolerance: 0, reason: '' }))).toBe('No slope was recorded with it.')
    })
    it('has a headline for every end', () => {
        expect(warmupHeadline(warmup({ stable: [stable()] }))).toBe('Loss called stable at step 1,200')
        expect(warmupHeadline(warmup({ end: 'still running' }))).toContain('is running')
        expect(warmupHeadline(warmup({ end: 'still running' }), 'failed')).toBe(
            'Not called stable before the run ended',
        )
        expect(warmupHeadline(warmup({ end: 'The step limit was reached' }))).toBe(
            'Not called stable: the step limit was reached',
        )
        expect(warmupHeadline(warmup({}))).toBe('Not called stable')
    })
})

describe('recovery', () => {
    it('is a share of what pruning cost', () => {
        expect(recoveredShare(recovery(2, 3, 2.17))).toBeCloseTo(0.83)
        expect(recoveredShare(recovery(2, 2, 1))).toBeNull()
        expect(recoveredShare(recovery(null, 3, 2))).toBeNull()
        expect(recoveredShare({ ...recovery(2, 3, 2), recovered: 0.5 })).toBe(0.5)
    })
    it.each([
        [recovery(2, 3, 2.17), 'Recovered 83 % of what pruning cost'],
        [recovery(2, 3, 1.9), 'Recovered all that pruning cost and more (110 %)'],
        [recovery(2, 3, 3.5), 'Recovered nothing: the loss rose further (−50 %)'],
        [recovery(2, 1.9, 1.8), 'Pruning cost nothing to recover'],
        [recovery(2, 3, null), 'Recovering; its result is not measured yet'],
        [recovery(null, null, null), 'What pruning cost was not measured'],
        [recovery(2, NaN, NaN), 'What pruning cost was not measured'],
    ])('in words', (one, said) => expect(recoveryHeadline(one)).toBe(said))
    it('shows the path of the loss', () => {
        expect(lossPath(2, 3, 2.5)).toBe('2.000 → 3.000 (+1.000) → 2.500 (−0.500)')
        expect(lossPath(null, NaN, 2)).toBe('– → NaN → 2.000')
    })
})

describe('cycles', () => {
    const cycle = { cycle: 1, pruned: 1, grown: 0, heads_left: 47, sparsity: 1 / 48 } as Cycle
    it('are summed up', () => {
        expect(cyclesHeadline([])).toBe('')
        expect(cyclesHeadline([cycle])).toBe('1 cycle: 1 head pruned, 47 heads left (sparsity 2.1 %).')
        expect(cyclesHeadline([cycle, { ...cycle, grown: 2 }])).toContain(
            '2 cycles: 2 heads pruned, 2 heads grown',
        )
    })
    it('claim a difference only where the interval leaves zero out', () => {
        expect(impactSentence(null, 'x')).toBe('')
        expect(impactSentence({ value: 0.06, low: 0.04, high: 0.08 }, 'the baseline')).toBe(
            'Measurably higher test loss than the baseline (+0.060, 95 % interval +0.040 to +0.080).',
        )
        expect(impactSentence({ value: 0.06, low: -0.04, high: 0.08 }, 'x')).toContain(
            'No measurable difference',
        )
        expect(impactSentence({ value: 0.06, low: null, high: null }, 'x')).toContain('no evidence')
    })
})

describe('samples', () => {
    const rows: Sample[] = [
        {
            step: 1,
            model: 'baseline',
            phase: 'warmup',
            prompt: 'a',
            text: '1',
            cycle: 0,
            metrics: { loss: 1 },
        },
        { step: 2, model: 'pruned', phase: 'evaluation', prompt: 'a', text: '2', cycle: 1, metrics: {} },
        { step: 3, model: 'baseline', phase: 'evaluation', prompt: 'b', text: '3', cycle: 1, metrics: {} },
    ]
    it('come newest first and pass all filters', () => {
        expect(chosenSamples(rows, NO_FILTER).map((one) => one.at)).toEqual([2, 1, 0])
        expect(
            chosenSamples(rows, { prompt: 'a', model: 'baseline', phase: '' }).map((one) => one.at),
        ).toEqual([0])
        expect(chosenSamples([], NO_FILTER)).toEqual([])
    })
    it('keep their figures', () => {
        expect(figuresOf(rows, 'a', 'baseline')).toEqual({ loss: 1 })
        expect(figuresOf(rows, 'c', 'baseline')).toEqual({})
    })
    it('are shortened to one line', () => {
        expect(shorten('a\n  b', 10)).toBe('a b')
        expect(shorten('abcdefgh', 5)).toBe('abcd…')
    })
})

describe('settings', () => {
    const settings = [
        {
            title: 'Configuration',
            pairs: [
                ['seed', '0'],
                ['__proto__', 'x'],
                ['heads', '[1, 2]'],
            ] as [string, string][],
        },
        {
            title: 'Environment',
            pairs: [['command', '["plasticity", "run", "--name", "it\'s"]']] as [string, string][],
        },
    ]
    it('give the command as a shell reads it', () => {
        expect(commandLine(settings)).toBe(`plasticity run --name 'it'\\''s'`)
        expect(commandLine([{ title: 'x', pairs: [['command', 'plasticity run']] }])).toBe('plasticity run')
        expect(commandLine([])).toBe('')
    })
    it('become JSON without losing digits or odd names', () => {
        const text = settingsJson([
            ...settings,
            {
                title: 'Data',
                pairs: [
                    ['hash', '12345678901234567890'],
                    ['broken', '[1,'],
                ],
            },
        ])
        expect(text).toContain('"__proto__": "x"')
        expect(JSON.parse(text).Configuration.heads).toEqual([1, 2])
        expect(JSON.parse(text).Data).toEqual({ hash: '12345678901234567890', broken: '[1,' })
    })
    it('are found by name and value', () => {
        expect(filteredSettings(settings, ' SEED ')).toEqual([
            { title: 'Configuration', pairs: [['seed', '0']] },
        ])
        expect(filteredSettings(settings, '')).toBe(settings)
        expect(filteredSettings(settings, 'nothing of the kind')).toEqual([])
    })
})

it('sentences begin large and end once', () => {
    expect(sentence('over there')).toBe('Over there.')
    expect(sentence('Over there.')).toBe('Over there.')
    expect(sentence('  ')).toBe('')
})
