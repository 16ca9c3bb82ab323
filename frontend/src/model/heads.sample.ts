/** A small head history for tests. */
import { ABSENT, ADDED, PRUNED, REGROWN, type HeadDecision, type Heads } from './types'

export function decision(kind: HeadDecision['kind'], step: number, heads: number[], more = {}): HeadDecision {
    return {
        seq: step,
        step,
        cycle: 1,
        kind,
        title: kind,
        strategy: 'gradient',
        rule: '',
        level: null,
        threshold: null,
        seed: null,
        score_label: '',
        loss_before: null,
        loss_after: null,
        heads: { data: Int32Array.from(heads), shape: [heads.length / 2, 2] },
        score: null,
        rank: null,
        protected: null,
        reasons: {},
        ...more,
    }
}
/** 1 layer × 3 heads: head 1 goes at 10 and comes back at 20; head 2 is added at 20. */
export const HEADS: Heads = {
    shape: [1, 3],
    restored: [],
    criteria: [
        {
            name: 'gradient',
            label: 'Gradient',
            unit: '',
            low: 1,
            high: 6,
            steps: { data: Int32Array.from([5, 15]), shape: [2] },
            values: { data: Float32Array.from([3, 1, NaN, 6, NaN, 2]), shape: [2, 1, 3] },
        },
    ],
    states: {
        steps: { data: Int32Array.from([0, 10, 20]), shape: [3] },
        cycles: { data: Int32Array.from([0, 1, 1]), shape: [3] },
        grids: {
            data: Int8Array.from([1, 1, ABSENT, 1, PRUNED, ABSENT, 1, REGROWN, ADDED]),
            shape: [3, 1, 3],
        },
    },
    decisions: [
        decision('pruned', 10, [0, 1], { reasons: { '0.1': 'lowest' } }),
        decision('regrown', 20, [0, 1]),
        decision('added', 20, [0, 2]),
    ],
    thinned: null,
}
export const EMPTY: Heads = {
    shape: [0, 0],
    restored: [],
    criteria: [],
    states: {
        steps: { data: new Int32Array(), shape: [0] },
        cycles: { data: new Int32Array(), shape: [0] },
        grids: { data: new Int8Array(), shape: [0, 0, 0] },
    },
    decisions: [],
    thinned: null,
}
