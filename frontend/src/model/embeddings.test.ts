import { describe, expect, it } from 'vitest'
import * as e from './embeddings'
import type { Space } from './types'

const floats = (values: number[], shape: number[] = [values.length]) => ({
    data: Float64Array.from(values),
    shape,
})
const ints = (...values: number[]) => ({ data: Int32Array.from(values), shape: [values.length] })

/** 2 looks × 1 layer × 3 points; the last point is not recorded at the second look. */
const space = (more: Partial<Space> = {}): Space => ({
    name: 'hidden',
    layers: ['layer 0'],
    steps: ints(0, 10),
    cycles: ints(0, 1),
    models: ['baseline', 'pruned'],
    drift: [
        {
            model: 'pruned',
            linear_cka: floats([1, 0.9], [2, 1]),
            procrustes_residual: floats([0, 0.2], [2, 1]),
            neighbour_overlap: floats([1, NaN], [2, 1]),
        },
        {
            model: 'control',
            linear_cka: floats([NaN, 0.98], [2, 1]),
            procrustes_residual: floats([NaN, 0.01], [2, 1]),
            neighbour_overlap: floats([NaN, 1], [2, 1]),
        },
    ],
    neighbours: 1,
    chance_overlap: 0.5,
    chance_residual: floats([0.7]),
    dimensions: 4,
    labels: ['Ġa', '', 'c'],
    groups: ints(0, -1, 0),
    group_names: ['text'],
    coordinates: {
        data: Float32Array.from([0, 0, 1, 0, 0, 1, 0, 0, 3, 4, NaN, NaN]),
        shape: [2, 1, 3, 2],
    },
    explained_variance: floats([0.5, 0.2], [1, 2]),
    movers: [
        { layer: 0, point: 0, moved: 0.1, moved_in_control: null },
        { layer: 0, point: 1, moved: 2, moved_in_control: 0.1 },
    ],
    total: 3,
    ...more,
})

describe('places', () => {
    it('follow a point through the looks that have it', () => {
        expect(e.trailOf(space(), 0, 1, 1)).toEqual([
            [1, 0],
            [3, 4],
        ])
        expect(e.trailOf(space(), 0, 2, 1)).toEqual([[0, 1]])
        expect(e.trailOf(space(), 0, 1, 0)).toEqual([[1, 0]])
        expect(e.coordinatesAt(space(), 7, 0)).toHaveLength(0)
    })
    it('are framed over all looks, so that the frame stays', () => {
        expect(e.frameOf(space(), 0, false)).toEqual({ x: [0, 3], y: [0, 4] })
        expect(e.frameOf(space({ coordinates: floats([], [0, 0, 0, 2]) }), 0, false)).toBeNull()
        const even = e.evenFrame({ x: [0, 3], y: [0, 4] }, 200, 100)
        const unit = (even.x[1] - even.x[0]) / 200
        expect((even.y[1] - even.y[0]) / 100).toBeCloseTo(unit)
        expect(even.y[0]).toBeLessThan(0)
    })
    it('are named, whatever was recorded', () => {
        expect([0, 1, 5].map((at) => e.pointName(space(), at))).toEqual(['␣a', '(empty)', 'point 5'])
        expect([0, 1].map((at) => e.groupName(space(), at))).toEqual(['text', ''])
        expect(e.moversAt(space(), 0).map((one) => one.point)).toEqual([1, 0])
    })
})

describe('hexagons', () => {
    const points = Array.from({ length: 500 }, (_, at): e.Pair => [(at * 37) % 101, (at * 53) % 97])
    it('count every point once, in the nearest centre', () => {
        const bins = e.hexagons(points, 9)
        expect(bins.reduce((sum, bin) => sum + bin.count, 0)).toBe(500)
        for (const [x, y] of points.slice(0, 50)) {
            const nearest = Math.min(...bins.map((bin) => Math.hypot(bin.x - x, bin.y - y)))
            expect(nearest).toBeLessThanOrEqual(9 + 1e-9)
        }
    })
    it('leave out what has no place', () => expect(e.hexagons([[NaN, 1]], 9)).toEqual([]))
})

describe('the keyboard', () => {
    const pixels: e.Pair[] = [
        [0, 0],
        [10, 1],
        [11, 40],
        [NaN, NaN],
    ]
    it('goes to what lies ahead rather than aside', () => {
        expect(e.towards(pixels, 0, 1, 0)).toBe(1)
        expect(e.towards(pixels, 1, 0, 1)).toBe(2)
        expect(e.towards(pixels, 2, 0, 1)).toBe(2)
        expect(e.towards(pixels, -1, 1, 0)).toBe(0)
    })
    it('and the pointer finds the nearest', () => {
        expect(e.nearest(pixels, 9, 0, 5)).toBe(1)
        expect(e.nearest(pixels, 500, 500, 5)).toBe(-1)
    })
})

describe('drift', () => {
    it('stands beside the control’s, with NaN where there is none', () => {
        const [row] = e.driftRows(space(), 'linear_cka')
        expect(row!.cells).toEqual([
            { value: 1, control: null },
            { value: 0.9, control: 0.98 },
        ])
        expect(e.driftTable(space())).toHaveLength(1 + 4)
    })
    it('has one domain over the run, from nothing to the farthest', () => {
        const domains = e.MEASURES.map((measure) => e.driftDomain(space(), measure))
        expect(domains).toEqual([0.9, 0.2, 0.99])
    })
    it('comes to a sentence', () => {
        expect(e.driftHeadline(space())).toContain(
            'CKA 0.900 to the baseline’s; the equally trained control is at 0.980.',
        )
        expect(e.driftHeadline(space({ steps: ints(0), cycles: ints(0) }))).toContain('One look so far')
    })
})
