import { expect, it } from 'vitest'
import { judgedColumns, judgedHeadline, judgedOn, judgedSpec } from './judging'
import type { Cycles, Judgement } from './types'

const judgement = (cycle: number, ratio: number): Judgement => ({
    step: 10 * cycle,
    cycle,
    log_ratio: ratio,
    log_ratio_low: ratio - 0.01,
    log_ratio_high: ratio + 0.01,
    budget: Math.log(1.05),
    inside: ratio + 0.01 <= Math.log(1.05),
    sparsity: cycle / 10,
    perplexity: 10 * Math.exp(ratio),
    control_perplexity: 10,
    sequences: 64,
    documents: 9,
    reason: '',
})
const view = (judged: Judgement[], to: number | null): Cycles =>
    ({
        judged,
        returned: to === null ? null : { step: 20, cycle: 2, to_cycle: to, to_step: 10, reason: '' },
    }) as unknown as Cycles

it('says what was decided, and where the run went back to', () => {
    const [first, second] = [judgement(1, 0.01), judgement(2, 0.08)]
    expect(judgedHeadline(view([first], null))).toContain('inside the allowed 5.0 %')
    expect(judgedHeadline(view([judgement(1, -0.05)], null))).toContain('below the control’s')
    const said = judgedHeadline(view([first, second], 1))
    expect(said).toContain('not shown to be inside')
    expect(said).toContain('returned to the state after cycle 1, 10.0 % of the heads removed')
    expect(judgedHeadline(view([first], 0))).toContain('returned to the unpruned model')
    expect(judgedHeadline(view([], null))).toBe('')
})

it('draws the increase against what is allowed, as shares of one', () => {
    const spec = judgedSpec(view([judgement(1, Math.log(1.02)), judgement(2, 0.08)], 1))
    expect(spec.lines[0]!.values[0]).toBeCloseTo(0.02)
    expect(spec.references![0]!.value).toBeCloseTo(0.05)
    expect(spec.uprights).toEqual([{ at: 1, label: 'returned to cycle 1' }])
})

it('says what the intervals rest on, and gives both ends to the table', () => {
    expect(judgedOn([judgement(1, 0)])).toContain('9 documents')
    expect(judgedOn([{ ...judgement(1, 0), documents: 0 }])).not.toContain('documents')
    expect(judgedColumns.find((one) => one.key === 'verdict')!.text!(judgement(1, 0.2))).toBe('✗ outside')
})
