import { describe, expect, it } from 'vitest'
import { atOrBefore, keptIndices, lowerBound, upperBound } from './downsample'

/** The slow reference: every column looked at by itself. */
function reference(
    steps: number[],
    values: number[],
    first: number,
    last: number,
    columns: number,
): number[] {
    const inside = steps.map((step, at) => ({ step, at })).filter(({ step }) => step >= first && step <= last)
    const kept = new Set<number>()
    const scale = last > first ? columns / (last - first) : 0
    const column = (step: number) => Math.min(Math.floor((step - first) * scale), columns)
    for (let one = 0; one <= columns; one++) {
        const here = inside.filter(({ step }) => column(step) === one).map(({ at }) => at)
        const finite = here.filter((at) => Number.isFinite(values[at]!))
        const odd = here.find((at) => !Number.isFinite(values[at]!))
        if (odd !== undefined) kept.add(odd)
        if (!finite.length) continue
        const by = (worse: (a: number, b: number) => boolean) =>
            finite.reduce((best, at) => (worse(values[at]!, values[best]!) ? at : best))
        for (const at of [finite[0]!, finite.at(-1)!, by((a, b) => a < b), by((a, b) => a > b)]) kept.add(at)
    }
    return [...kept].sort((a, b) => a - b)
}

function random(seed: number) {
    let state = seed
    return () => ((state = (state * 1664525 + 1013904223) % 4294967296), state / 4294967296)
}

describe('bounds', () => {
    it('find the first at, the first after and the last up to a step', () => {
        const steps = [1, 2, 2, 2, 5]
        expect(lowerBound(steps, 2)).toBe(1)
        expect(upperBound(steps, 2)).toBe(4)
        expect(atOrBefore(steps, 4)).toBe(3)
        expect(atOrBefore(steps, 0)).toBe(-1)
        expect(lowerBound([], 1)).toBe(0)
    })
})

describe('kept points', () => {
    it('are those of a slow reference, whatever the window, gaps and repeated steps', () => {
        for (let seed = 1; seed <= 60; seed++) {
            const next = random(seed)
            const count = 20 + Math.floor(next() * 600)
            let step = 0
            const steps = Array.from({ length: count }, () => (step += Math.floor(next() * 4)))
            const values = steps.map(() =>
                next() < 0.05 ? [NaN, Infinity, -Infinity][Math.floor(next() * 3)]! : Math.round(next() * 50),
            )
            const first = Math.floor(next() * step * 0.5)
            const last = first + Math.floor(next() * step * 0.6)
            const columns = 1 + Math.floor(next() * 12)
            const found = [...keptIndices(steps, values, first, last, columns)]
            const inside = found.filter((at) => steps[at]! >= first && steps[at]! <= last)
            const here = upperBound(steps, last) - lowerBound(steps, first)
            const all =
                Math.min(upperBound(steps, last) + 1, count) - Math.max(lowerBound(steps, first) - 1, 0)
            if (all <= 5 * columns) expect(inside.length).toBe(here)
            else expect(inside).toEqual(reference(steps, values, first, last, columns))
            expect(found).toEqual([...new Set(found)].sort((a, b) => a - b))
        }
    })

    it('hold a single spike among a million points at every zoom', () => {
        const count = 1_000_000
        const steps = Int32Array.from({ length: count }, (_, at) => at)
        const values = new Float64Array(count).fill(1)
        values[654_321] = 50
        for (let wide = count; wide > 10; wide = Math.floor(wide / 3)) {
            const first = Math.max(0, 654_321 - Math.floor(wide / 2))
            const kept = keptIndices(steps, values, first, first + wide, 400)
            expect(kept.some((at) => values[at] === 50)).toBe(true)
            expect(kept.length).toBeLessThanOrEqual(5 * 402)
        }
    })

    it('are all of few points, and one beyond each end', () => {
        const steps = [0, 10, 20, 30, 40]
        expect([...keptIndices(steps, [1, 2, 3, 4, 5], 15, 25, 100)]).toEqual([1, 2, 3])
        expect([...keptIndices([], [], 0, 1, 10)]).toEqual([])
        expect([...keptIndices([5], [1], 0, 10, 10)]).toEqual([0])
        expect([...keptIndices([5], [1], 5, 5, 10)]).toEqual([0])
    })

    it('keep a first NaN of a column of nothing else', () => {
        const steps = Array.from({ length: 1000 }, (_, at) => at)
        const kept = keptIndices(
            steps,
            steps.map(() => NaN),
            0,
            999,
            4,
        )
        expect(kept.length).toBe(5) // four columns, and the last step's own
    })
})
