import { describe, expect, it } from 'vitest'
import { nextOrder, sorted, toCsv, type Column } from './table'

interface Row {
    name: string
    loss: number | null
}
const columns: Column<Row>[] = [
    { key: 'name', label: 'name', value: (row) => row.name },
    {
        key: 'loss',
        label: 'loss',
        value: (row) => row.loss,
        more: [['loss, twice', (row) => row.loss && 2 * row.loss]],
    },
]
const rows: Row[] = [
    { name: 'run 10', loss: 2 },
    { name: 'run 9', loss: NaN },
    { name: 'run 1', loss: null },
    { name: 'run 2', loss: -1 },
    { name: 'run 3', loss: Infinity },
]
const by = (key: string, descending: boolean) =>
    sorted(rows, columns, { key, descending }).map((row) => row.name)

describe('sorting', () => {
    it('puts NaN after the numbers and missing values last, whichever way', () => {
        expect(by('loss', false)).toEqual(['run 2', 'run 10', 'run 3', 'run 9', 'run 1'])
        expect(by('loss', true)).toEqual(['run 3', 'run 10', 'run 2', 'run 9', 'run 1'])
    })
    it('reads numbers inside text', () => {
        expect(by('name', false)).toEqual(['run 1', 'run 2', 'run 3', 'run 9', 'run 10'])
    })
    it('keeps the order of the record without a column', () => {
        expect(sorted(rows, columns, null)).toBe(rows)
        expect(sorted(rows, columns, { key: 'gone', descending: false })).toBe(rows)
        expect(sorted([], columns, { key: 'loss', descending: false })).toEqual([])
    })
    it('goes from ascending to descending to none', () => {
        const up = nextOrder(null, 'loss')
        expect(up).toEqual({ key: 'loss', descending: false })
        expect(nextOrder(up, 'loss')).toEqual({ key: 'loss', descending: true })
        expect(nextOrder({ key: 'loss', descending: true }, 'loss')).toBeNull()
        expect(nextOrder(up, 'name')).toEqual({ key: 'name', descending: false })
    })
})

describe('CSV', () => {
    it('has every digit, and quotes what would break a row', () => {
        expect(toCsv([{ name: 'a "b", c\nd', loss: 0.1 + 0.2 }], columns)).toBe(
            'name,loss,"loss, twice"\r\n"a ""b"", c\nd",0.30000000000000004,0.6000000000000001\r\n',
        )
    })
    it('says NaN and infinity, leaves missing empty', () => {
        expect(toCsv(rows.slice(1, 3), columns)).toBe(
            'name,loss,"loss, twice"\r\nrun 9,NaN,NaN\r\nrun 1,,\r\n',
        )
        expect(toCsv([{ name: '-', loss: -Infinity }], columns)).toContain(',-Infinity,')
    })
    it('keeps text from outside from being run as a formula', () => {
        expect(toCsv([{ name: '=HYPERLINK("x")', loss: -1 }], columns)).toContain(`"'=HYPERLINK(""x"")",-1`)
    })
})
