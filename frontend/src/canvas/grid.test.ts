import { describe, expect, it } from 'vitest'
import { IMPORTANCE } from '../model/colour'
import { HEADS } from '../model/heads.sample'
import { cellsAt, frozenDomain, importancePlaces, moment } from './cells'
import { cellAt, gridLayout, labelEvery } from './grid'

describe('layout', () => {
    it('fits the room, between the least and the most', () => {
        expect(gridLayout(1, 1, 400).cell).toBe(44)
        expect(gridLayout(12, 12, 400).cell).toBe(30)
        expect(gridLayout(48, 32, 400).cell).toBeGreaterThanOrEqual(8)
        expect(gridLayout(0, 0, 0).width).toBeGreaterThan(0)
    })
    it('shows every one of many columns by narrower cells, as high as before', () => {
        const layout = gridLayout(100, 128, 300)
        expect([layout.cell, layout.high]).toEqual([2, 5])
        expect(layout.width).toBeLessThanOrEqual(300)
        expect(cellAt(layout, layout.left + 127.5 * 2, layout.top + 99.5 * 5)).toEqual({
            layer: 99,
            head: 127,
        })
        expect(gridLayout(12, 12, 400).high).toBe(30)
        expect(gridLayout(100, 128, 100).cell).toBe(2)
    })
    it('does not grow taller than a screen', () => {
        for (const rows of [1, 6, 24, 48]) expect(gridLayout(rows, 4, 2000).height).toBeLessThan(560)
    })
    it('finds the head under a point', () => {
        const layout = gridLayout(3, 4, 300)
        const [x, y] = [layout.left + 2.5 * layout.cell, layout.top + 1.5 * layout.cell]
        expect(cellAt(layout, x, y)).toEqual({ layer: 1, head: 2 })
        expect(cellAt(layout, 1, y)).toBeNull()
        expect(cellAt(layout, x, layout.top + 3.1 * layout.cell)).toBeNull()
    })
    it('thins labels where cells are small', () => {
        expect(labelEvery(30, 3)).toBe(1)
        expect(labelEvery(6, 3)).toBe(4)
        expect(labelEvery(1, 4)).toBe(32)
    })
})

describe('cells', () => {
    const criterion = HEADS.criteria[0]!
    it('are of the measurement at or before the step', () => {
        expect(moment(HEADS, criterion, 4)).toEqual({ states: 0, snapshot: -1 })
        expect(moment(HEADS, criterion, 12)).toEqual({ states: 1, snapshot: 0 })
        expect(moment(HEADS, null, 99)).toEqual({ states: 2, snapshot: -1 })
    })
    it('have one domain for the whole run', () => {
        expect(frozenDomain(criterion)).toEqual([1, 6])
        expect(frozenDomain({ ...criterion, low: NaN, high: NaN })).toEqual([1, 6])
        expect([...importancePlaces(criterion, 0, [1, 1, 1], false)]).toEqual([102, 0, -1])
        expect([...importancePlaces(criterion, 1, [1, 1, 1], true)]).toEqual([255, -1, 0])
        expect([...importancePlaces(null, -1, [1, 1], false)]).toEqual([-1, -1])
    })
    it('carry the states', () => {
        const cells = cellsAt(HEADS, criterion, 1, 1, false)
        expect([...(cells.states as Int8Array)]).toEqual([1, 0, -1])
        expect(cells.ramp).toBe(IMPORTANCE)
    })
})
