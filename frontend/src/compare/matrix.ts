/** The matrix of all pairs: one square each, their runs' colours along the edges. */
import type { Ink } from '../canvas/ink.svelte'
import { cssOf, WEIGHT } from '../model/colour'
import { legible } from '../model/theme.svelte'
import type { Overlap } from '../model/types-comparison'

export interface MatrixLayout {
    count: number
    cell: number
    edge: number
    size: number
}
const EDGE = 34

export function matrixLayout(count: number, room: number): MatrixLayout {
    const cell = Math.max(Math.min(Math.floor((room - EDGE - 2) / Math.max(count, 1)), 40), 3)
    return { count, cell, edge: EDGE, size: EDGE + cell * count + 2 }
}

export function pairAt({ count, cell, edge }: MatrixLayout, x: number, y: number): [number, number] | null {
    const [row, column] = [Math.floor((y - edge) / cell), Math.floor((x - edge) / cell)]
    const inside = row >= 0 && column >= 0 && row < count && column < count
    return inside && row !== column ? [row, column] : null
}

/** `order`: which run stands at each place. */
export function paintMatrix(
    context: CanvasRenderingContext2D,
    { count, cell, edge, size }: MatrixLayout,
    overlap: Overlap,
    order: number[],
    colours: string[],
    pair: [number, number],
    ink: Ink,
): void {
    const gap = cell >= 8 ? 1 : 0
    for (let row = 0; row < count; row++)
        for (let column = 0; column < count; column++) {
            const share = overlap.jaccard.data[order[row]! * count + order[column]!]!
            const [x, y] = [edge + column * cell, edge + row * cell]
            context.fillStyle =
                row === column || Number.isNaN(share) ? ink.faint : cssOf(WEIGHT[Math.round(share * 255)]!)
            context.fillRect(x, y, cell - gap, cell - gap)
            if (row !== column && Number.isNaN(share) && cell >= 8) {
                context.strokeStyle = ink.muted
                context.lineWidth = 1
                context.beginPath()
                context.moveTo(x + 2, y + cell - 3)
                context.lineTo(x + cell - 3, y + 2)
                context.stroke()
            }
        }
    context.font = `11px ${ink.font}`
    context.fillStyle = ink.muted
    const every = [1, 2, 5, 10, 20, 50].find((step) => step * cell >= 14) ?? 100
    for (let at = 0; at < count; at++) {
        const middle = edge + (at + 0.5) * cell
        context.fillStyle = legible(colours[at]!, ink.dark)
        context.fillRect(edge - 7, middle - cell / 2, 5, cell - gap)
        context.fillRect(middle - cell / 2, edge - 7, cell - gap, 5)
        if (at % every) continue
        context.fillStyle = ink.muted
        context.textBaseline = 'middle'
        context.textAlign = 'right'
        context.fillText(String(order[at]! + 1), edge - 10, middle)
        if (cell * every < 22 && at % (2 * every)) continue
        context.textBaseline = 'alphabetic'
        context.textAlign = 'center'
        context.fillText(String(order[at]! + 1), Math.min(middle, size - 8), edge - 11)
    }
    context.strokeStyle = ink.accent
    context.lineWidth = 2
    const places = pair.map((run) => order.indexOf(run))
    for (const [row, column] of [places, [...places].reverse()])
        context.strokeRect(edge + column! * cell - 1, edge + row! * cell - 1, cell + 2 - gap, cell + 2 - gap)
}
