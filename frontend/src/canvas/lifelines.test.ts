import { describe, expect, it } from 'vitest'
import { IMPORTANCE } from '../model/colour'
import { EMPTY, HEADS } from '../model/heads.sample'
import { PRUNED } from '../model/types'
import * as l from './lifelines'

const criterion = HEADS.criteria[0]!
const heads = (rows: l.Row[]): number[] => rows.map((row) => row.head)

describe('rows', () => {
    it('have a stretch for every state', () => {
        const [first, second, third] = l.stretchesOf(HEADS, 0)
        expect(first).toHaveLength(1)
        expect(second!.map((one) => [one.state, one.first, one.end])).toEqual([
            [1, 0, 10],
            [PRUNED, 10, 20],
            [2, 20, null],
        ])
        expect(third!.map((one) => one.state)).toEqual([-1, 3])
    })
    it('can be ordered and filtered', () => {
        expect(heads(l.rowsOf(HEADS, criterion, 'layer', false, 0))).toEqual([0, 1, 2])
        expect(heads(l.rowsOf(HEADS, criterion, 'layer', true, 0))).toEqual([1, 2])
        expect(heads(l.rowsOf(HEADS, criterion, 'pruned', false, 0))).toEqual([1, 0, 2])
        expect(heads(l.rowsOf(HEADS, criterion, 'importance', false, 0))).toEqual([0, 2, 1])
        expect(heads(l.rowsOf(HEADS, null, 'importance', false, 0))).toEqual([0, 1, 2])
        expect(l.rowsOf(EMPTY, null, 'layer', false, 0)).toEqual([])
    })
    it('become a table with reasons', () => {
        const table = l.table(HEADS, l.rowsOf(HEADS, null, 'layer', true, 0), 0)
        expect(table[2]).toEqual(['L0H1', 0, 1, 'pruned', 10, 20, 'gradient', 'lowest'])
        expect(table).toHaveLength(6)
    })
})

describe('steps', () => {
    const plan = { left: 10, width: 100, first: 0, last: 50, rowHeight: 8 }
    it('lie where they are found again', () => {
        for (const step of [0, 13, 50]) expect(l.stepAt(plan, l.xOf(plan, step))).toBeCloseTo(step)
        expect(l.xOf({ ...plan, first: 3, last: 3 }, 3)).toBe(10)
    })
    it('show the last measurement of each column', () => {
        expect([...l.columnsOf([5, 15], 0, 20, 4)]).toEqual([0, 0, 1, 1])
        expect([...l.columnsOf([], 0, 20, 2)]).toEqual([-1, -1])
        expect(l.columnsOf([5], 0, 20, 0)).toHaveLength(0)
    })
    it('have round ticks', () => {
        expect(l.ticks(0, 100, 5)).toEqual([0, 20, 40, 60, 80, 100])
        expect(l.ticks(7, 7, 5)).toEqual([7])
        expect(l.ticks(0, 2, 10)).toEqual([0, 1, 2])
        expect(l.ticks(0, 1_000_000, 12).length).toBeLessThanOrEqual(13)
    })
})

it('colours what was measured and nothing else', () => {
    const rows = l.rowsOf(HEADS, criterion, 'layer', false, 0)
    const columns = Int32Array.of(-1, 0, 1)
    const into = new Uint32Array(9)
    const values = criterion.values.data
    l.raster(rows, { values, cells: 3, low: 1, high: 6, ramp: IMPORTANCE, columns }, into)
    expect([...into]).toEqual([
        0,
        IMPORTANCE[102],
        IMPORTANCE[255],
        0,
        IMPORTANCE[0],
        0,
        0,
        0,
        IMPORTANCE[51],
    ])
})
