/** Lifelines as a picture on white and as a table. */
import { PAPER, prepare } from '../canvas/ink.svelte'
import { table, type Plan, type Row, type Shade, type Upright } from '../canvas/lifelines'
import { paintAxis, paintKey, paintRows, paintUprights } from '../canvas/lifelines-paint'
import { blobOf, csv, csvBlob, save } from '../charts/export'
import type { Heads } from '../model/types'

/** Browsers paint no canvas taller than this. */
const TALLEST = 16_000
const FOOT = 32

export async function savePicture(what: {
    plan: Plan
    rows: Row[]
    shade: Shade | null
    lines: Upright[]
    label: (row: Row) => string
    grouped: boolean
    key: Parameters<typeof paintKey>[2]
}): Promise<void> {
    const top = 38
    const plan = { ...what.plan, rowHeight: Math.max(what.plan.rowHeight, 12) }
    const height = what.rows.length * plan.rowHeight
    const width = plan.left + plan.width + 12
    const scale = Math.min(2, TALLEST / (height + top + FOOT))
    const canvas = document.createElement('canvas')
    const context = prepare(canvas, width, height + top + FOOT, scale)
    if (!context) return
    context.fillStyle = PAPER.panel
    context.fillRect(0, 0, width, height + top + FOOT)
    paintAxis(context, plan, what.lines, PAPER)
    context.translate(0, top)
    paintRows(context, plan, what.rows, what.shade, PAPER, what.label, what.grouped)
    paintUprights(context, plan, what.lines, height, PAPER)
    context.translate(0, height + 6)
    paintKey(context, plan.left, what.key, PAPER)
    save('lifelines.png', await blobOf(canvas))
}

export function saveTable(heads: Heads, rows: Row[], first: number): void {
    save('lifelines.csv', csvBlob(csv(table(heads, rows, first))))
}
