/** The layers × heads grid: where its cells lie, and how they are painted. */
import { pixel, type Ramp } from '../model/colour'
import { ABSENT, ADDED, PRUNED, REGROWN } from '../model/types'
import { ADDED as ADDED_INK, MARKS, REGROWN as REGROWN_INK } from '../model/palette'
import { hatch, type Ink } from './ink.svelte'

export interface GridLayout {
    rows: number
    columns: number
    cell: number
    /** Height of a cell: as its width, but where many columns make that very small. */
    high: number
    gap: number
    left: number
    top: number
    width: number
    height: number
}
export interface Cells {
    ramp: Ramp
    /** Place on the ramp per head, −1 where there is no number. */
    places: ArrayLike<number>
    states: ArrayLike<number>
    /** Heads that the moment is about. */
    marked?: ReadonlySet<number>
    /** Heads that go at this moment: striped over their colour. */
    going?: ReadonlySet<number>
    /** Heads that a rule kept. */
    kept?: ArrayLike<number>
}

const LABEL = 11
const NARROWEST = 2
const OUTLINED = 5 // narrower cells are filled where others get an outline
const wide = (count: number): number => String(Math.max(count - 1, 0)).length + 1

/**
 * As large as the room allows: cells between `least` and `most` pixels. A grid too wide for that gets narrower ones, down
 * to `NARROWEST`, so that all of it is in sight; one that is wider still scrolls.
 */
export function gridLayout(
    rows: number,
    columns: number,
    room: number,
    most = 44,
    least = 5,
    tall = 520,
): GridLayout {
    const left = Math.max(wide(rows) * 7 + 8, 24)
    const top = LABEL + 8
    const space = Math.max(room - left - 2, 0) / Math.max(columns, 1)
    const fits = Math.max(Math.floor(tall / Math.max(rows, 1)), 8)
    const square = Math.min(Math.max(Math.min(Math.floor(space), fits), least), most)
    const cell = room ? Math.min(square, Math.max(Math.floor(space), NARROWEST)) : square
    const gap = cell >= 16 ? 2 : cell >= 5 ? 1 : 0
    return {
        rows,
        columns,
        cell,
        high: square,
        gap,
        left,
        top,
        width: left + columns * cell + 2,
        height: top + rows * square + 2,
    }
}

export function cellAt(layout: GridLayout, x: number, y: number): { layer: number; head: number } | null {
    const head = Math.floor((x - layout.left) / layout.cell)
    const layer = Math.floor((y - layout.top) / layout.high)
    const inside = head >= 0 && layer >= 0 && head < layout.columns && layer < layout.rows
    return inside ? { layer, head } : null
}

/** Every how many cells a label fits. */
export function labelEvery(cell: number, characters: number): number {
    const need = characters * 6.5 + 4
    return [1, 2, 4, 5, 8, 10, 16, 20, 32, 50].find((step) => step * cell >= need) ?? 100
}

export function paintGrid(
    context: CanvasRenderingContext2D,
    layout: GridLayout,
    cells: Cells,
    ink: Ink,
): void {
    paintLabels(context, layout, ink)
    const { rows, columns, cell, high, gap, left, top } = layout
    if (!rows || !columns) return
    const small = document.createElement('canvas')
    small.width = columns
    small.height = rows
    const brush = small.getContext('2d')
    if (!brush) return
    const image = brush.createImageData(columns, rows)
    const pixels = new Uint32Array(image.data.buffer)
    const blank = pixel(ink.faint)
    for (let at = 0; at < pixels.length; at++) {
        const [state, place] = [cells.states[at] ?? ABSENT, cells.places[at] ?? -1]
        pixels[at] = state === ABSENT ? 0 : state === PRUNED || place < 0 ? blank : cells.ramp[place]!
    }
    brush.putImageData(image, 0, 0)
    context.imageSmoothingEnabled = false
    context.drawImage(small, left, top, columns * cell, rows * high)
    fillPruned(context, layout, cells, ink)
    if (gap) {
        context.fillStyle = ink.panel
        for (let at = 1; at < columns; at++)
            context.fillRect(left + at * cell - gap / 2, top, gap, rows * high)
        for (let at = 1; at < rows; at++)
            context.fillRect(left, top + at * high - gap / 2, columns * cell, gap)
    }
    paintOutlines(context, layout, cells, ink)
}

const box = (layout: GridLayout, at: number, inset: number): [number, number, number, number] => {
    const { columns, cell, high, gap, left, top } = layout
    const shift = gap / 2 + inset
    const x = left + (at % columns) * cell + shift
    const y = top + Math.floor(at / columns) * high + shift
    return [x, y, cell - 2 * shift, high - 2 * shift]
}

function fillPruned(context: CanvasRenderingContext2D, layout: GridLayout, cells: Cells, ink: Ink): void {
    context.beginPath()
    let any = false
    for (let at = 0; at < layout.rows * layout.columns; at++) {
        if (cells.states[at] !== PRUNED) continue
        context.rect(...box(layout, at, 0))
        any = true
    }
    if (!any) return
    context.fillStyle = layout.cell < 6 ? ink.hatch : hatch(context, ink)
    context.fill()
}

function stroke(
    context: CanvasRenderingContext2D,
    layout: GridLayout,
    colour: string,
    width: number,
    inset: number,
    which: (at: number) => boolean,
): void {
    context.beginPath()
    const filled = layout.cell < OUTLINED
    let any = false
    for (let at = 0; at < layout.rows * layout.columns; at++) {
        if (!which(at)) continue
        context.rect(...box(layout, at, filled ? 0 : inset + width / 2))
        any = true
    }
    if (!any) return
    if (filled) {
        context.fillStyle = colour
        context.fill()
        return
    }
    context.strokeStyle = colour
    context.lineWidth = width
    context.stroke()
}

function paintOutlines(context: CanvasRenderingContext2D, layout: GridLayout, cells: Cells, ink: Ink): void {
    const state = (at: number): number => cells.states[at] ?? ABSENT
    const fine = layout.cell < 14 ? 1 : 2
    if (layout.cell >= 8) {
        context.setLineDash([2, 2])
        stroke(context, layout, ink.muted, 1, 1, (at) => state(at) > PRUNED && (cells.places[at] ?? -1) < 0)
        context.setLineDash([])
    }
    if (layout.cell >= 12) stroke(context, layout, ink.panel, 1, fine, (at) => state(at) >= REGROWN)
    stroke(context, layout, REGROWN_INK, fine, 0, (at) => state(at) === REGROWN)
    stroke(context, layout, ADDED_INK, fine, 0, (at) => state(at) === ADDED)
    if (layout.cell >= 12) stroke(context, layout, ADDED_INK, 1, fine + 1, (at) => state(at) === ADDED)
    if (cells.going?.size) paintGoing(context, layout, cells.going, ink)
    if (cells.kept) paintKept(context, layout, cells.kept, ink)
    if (cells.marked?.size) stroke(context, layout, ink.accent, 2, -1, (at) => cells.marked!.has(at))
}

function paintGoing(
    context: CanvasRenderingContext2D,
    layout: GridLayout,
    going: ReadonlySet<number>,
    ink: Ink,
): void {
    const colour = MARKS.pruned ?? ink.ink
    context.beginPath()
    for (const at of going) context.rect(...box(layout, at, 0))
    if (layout.cell >= 8) {
        context.fillStyle = hatch(context, { ...ink, hatch: colour, faint: 'transparent' }, 6, 2)
        context.fill()
    }
    stroke(context, layout, ink.panel, 1, 2, (at) => going.has(at))
    stroke(context, layout, colour, 2, 0, (at) => going.has(at))
}

/** A small white disc with a dark ring in the middle: a rule kept this head. */
function paintKept(
    context: CanvasRenderingContext2D,
    layout: GridLayout,
    kept: ArrayLike<number>,
    ink: Ink,
): void {
    const radius = Math.max(layout.cell / 7, 1.5)
    context.beginPath()
    for (let at = 0; at < layout.rows * layout.columns; at++) {
        if (!kept[at]) continue
        const [x, y, wide, high] = box(layout, at, 0)
        context.moveTo(x + wide / 2 + radius, y + high / 2)
        context.arc(x + wide / 2, y + high / 2, radius, 0, 2 * Math.PI)
    }
    context.fillStyle = '#ffffff'
    context.strokeStyle = ink.dark ? '#000000' : ink.ink
    context.lineWidth = 1
    context.fill()
    context.stroke()
}

function paintLabels(context: CanvasRenderingContext2D, layout: GridLayout, ink: Ink): void {
    const { rows, columns, cell, high, left, top } = layout
    context.font = `${LABEL}px ${ink.font}`
    context.fillStyle = ink.muted
    context.textBaseline = 'middle'
    context.textAlign = 'right'
    const down = Math.max(1, [1, 2, 4, 5, 8, 10, 20].find((step) => step * high >= LABEL + 2) ?? 50)
    for (let at = 0; at < rows; at += down) context.fillText(`L${at}`, left - 6, top + (at + 0.5) * high)
    context.textBaseline = 'alphabetic'
    context.textAlign = 'center'
    const across = labelEvery(cell, wide(columns))
    for (let at = 0; at < columns; at += across) {
        const half = context.measureText(`H${at}`).width / 2
        const x = Math.max(left + (at + 0.5) * cell, left + 6)
        // A label at the right edge stands a little to the left rather than cut off.
        context.fillText(`H${at}`, Math.min(x, layout.width - half), top - 6)
    }
}
