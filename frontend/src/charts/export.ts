/** A chart as a picture, its data as a table. */
import type { Line } from './spec'

/** One entry of a save menu. */
export interface Saving {
    label: string
    save: () => void | Promise<void>
}

export function save(name: string, content: Blob): void {
    const link = document.createElement('a')
    link.href = URL.createObjectURL(content)
    link.download = name
    link.click()
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}

export const fileName = (title: string, ending: string): string =>
    `${
        title
            .toLowerCase()
            .replace(/[^\p{L}\p{N}]+/gu, '-')
            .replace(/^-|-$/g, '') || 'chart'
    }.${ending}`

export const blobOf = (canvas: HTMLCanvasElement): Promise<Blob> =>
    new Promise((done, failed) =>
        canvas.toBlob(
            (blob) => (blob ? done(blob) : failed(new Error('the picture is too large'))),
            'image/png',
        ),
    )

export type Cell = string | number | null | undefined

/** One field of a CSV file (RFC 4180); text that a spreadsheet would take for a formula is not one. */
export function field(value: Cell): string {
    if (value === null || value === undefined) return ''
    if (typeof value === 'number') return String(value)
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}

export const csv = (rows: Cell[][]): string =>
    rows.map((row) => row.map(field).join(',')).join('\r\n') + '\r\n'

export const csvBlob = (text: string): Blob => new Blob([text], { type: 'text/csv;charset=utf-8' })

/** Every point of the lines by step, one column a line, in full precision; a step may stand in several rows. */
export function lineTable(lines: Line[], x = 'step'): Cell[][] {
    const columns = lines.flatMap((line) => {
        const one = [{ title: line.label, steps: line.steps, values: line.values, at: 0 }]
        if (line.low) one.push({ title: `${line.label}, low`, steps: line.steps, values: line.low, at: 0 })
        if (line.high) one.push({ title: `${line.label}, high`, steps: line.steps, values: line.high, at: 0 })
        return one
    })
    const rows: Cell[][] = [[x, ...columns.map((one) => one.title)]]
    for (;;) {
        let step = Infinity
        for (const one of columns) if (one.at < one.steps.length) step = Math.min(step, one.steps[one.at]!)
        if (step === Infinity) return rows
        rows.push([
            step,
            ...columns.map((one) => (one.steps[one.at] === step ? one.values[one.at++]! : null)),
        ])
    }
}
