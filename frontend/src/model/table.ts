/** Rows and columns of a table: how they sort and how they are written as CSV. */
import { csv } from '../charts/export'

export type CellValue = number | string | boolean | null | undefined
export interface Column<Row> {
    key: string
    label: string
    /** What sorts and what the CSV has, in full precision. */
    value: (row: Row) => CellValue
    /** What is shown; without it the value itself. */
    text?: (row: Row) => string
    /** Shown small below: an interval, a spread. */
    note?: (row: Row) => string
    /** Its name in the CSV, where the label leans on its neighbour. */
    name?: string
    /** Said where the pointer rests on the column's head. */
    title?: string
    number?: boolean
    /** Text that came from outside. */
    foreign?: boolean
    /** Further columns of the CSV: ends of an interval. */
    more?: [string, (row: Row) => CellValue][]
}
export interface Order {
    key: string
    descending: boolean
}

const missing = (value: CellValue) => value === null || value === undefined || value === ''
/** Numbers by size, text by its alphabet with numbers inside it in order; NaN after every number, missing last. */
function compare(a: CellValue, b: CellValue, descending: boolean): number {
    if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b))
    if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b))
    const order =
        typeof a === 'string' || typeof b === 'string'
            ? String(a).localeCompare(String(b), 'en', { numeric: true })
            : Number(a! > b!) - Number(a! < b!)
    return descending ? -order : order
}

/** A sorted copy; rows that are equal keep their order. */
export function sorted<Row>(rows: Row[], columns: Column<Row>[], order: Order | null): Row[] {
    const column = order && columns.find((one) => one.key === order.key)
    if (!order || !column) return rows
    return [...rows].sort((a, b) => compare(column.value(a), column.value(b), order.descending))
}

/** First press ascending, second descending, third as recorded. */
export function nextOrder(order: Order | null, key: string): Order | null {
    if (order?.key !== key) return { key, descending: false }
    return order.descending ? null : { key, descending: true }
}

/** Every column in full precision; what a column has more (ends of an interval) beside it. */
export function toCsv<Row>(rows: Row[], columns: Column<Row>[]): string {
    const fields = columns.flatMap((one) => [
        [one.name ?? one.label, one.value] as const,
        ...(one.more ?? []).map(([label, value]) => [label, value] as const),
    ])
    const known = (value: CellValue) => (typeof value === 'boolean' ? String(value) : value)
    return csv([
        fields.map(([label]) => label),
        ...rows.map((row) => fields.map(([, value]) => known(value(row)))),
    ])
}
