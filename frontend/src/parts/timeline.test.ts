import { expect, it } from 'vitest'
import type { Mark, Timeline } from '../model/types'
import { eventSteps, layLabels, mergedLabel, nextEvent, placeSaid } from './timeline'

const mark = (step: number, kind = 'pruned', short = '7 pruned'): Mark => ({
    step,
    kind,
    label: short,
    cycle: 1,
    short,
})
const timeline = (marks: Mark[]): Timeline => ({
    spans: [
        { phase: 'warmup', cycle: 0, first_step: 0, last_step: 9, summary: {} },
        { phase: 'pruning', cycle: 1, first_step: 10, last_step: 20, summary: {} },
    ],
    marks,
    boundaries: [{ step: 10, cycle: 1 }],
    first: 0,
    last: 20,
    series: [],
    smooth: [],
})

it('marks close together share a label', () => {
    expect(mergedLabel([mark(1)])).toBe('7 pruned')
    expect(mergedLabel([mark(1), mark(2)])).toBe('2 prunings')
    expect(mergedLabel([mark(1), mark(2), mark(3, 'stable', 'stable')])).toBe('2 prunings, stable')
})

it('labels never overlap within a lane and stay inside', () => {
    const marks = Array.from({ length: 60 }, (_, at) => mark(at * 3))
    const labels = layLabels(
        marks,
        (step) => step * 5,
        (text) => text.length * 6,
        [0, 900],
    )
    for (const lane of [0, 1]) {
        const own = labels.filter((one) => one.lane === lane)
        own.forEach((one, at) => at && expect(one.left).toBeGreaterThanOrEqual(own[at - 1]!.right))
    }
    for (const one of labels) expect(one.left >= 0 && one.right <= 900).toBe(true)
    expect(
        layLabels(
            [],
            (step) => step,
            () => 1,
            [0, 10],
        ),
    ).toEqual([])
})

it('a label wider than everything still ends', () => {
    expect(
        layLabels(
            [mark(1), mark(2), mark(3)],
            (step) => step,
            () => 500,
            [0, 100],
            1,
        ),
    ).toHaveLength(1)
})

it('left and right go by event', () => {
    const steps = eventSteps(timeline([mark(12)]))
    expect(steps).toEqual([0, 10, 12, 20])
    expect(nextEvent(steps, 10, true)).toBe(12)
    expect(nextEvent(steps, 10, false)).toBe(0)
    expect(nextEvent(steps, 20, true)).toBeUndefined()
    expect(placeSaid(timeline([mark(12)]), 12, (phase) => phase)).toBe('step 12; pruning, cycle 1; 7 pruned')
})
