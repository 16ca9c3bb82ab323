/** Lifelines on a canvas: rows, vertical lines, the axis of steps. */
import { cssOf, type Ramp } from '../model/colour'
import { whole } from '../model/format'
import { ADDED as ADDED_INK, REGROWN as REGROWN_INK } from '../model/palette'
import { legible } from '../model/theme.svelte'
import { ABSENT, ADDED, PRUNED, REGROWN } from '../model/types'
import { hatch, type Ink } from './ink.svelte'
import { raster, ticks, xOf, type Plan, type Row, type Shade, type Stretch, type Upright } from './lifelines'

/** Paints `rows` from the top of the context down. */
export function paintRows(
    context: CanvasRenderingContext2D,
    plan: Plan,
    rows: Row[],
    shade: Shade | null,
    ink: Ink,
    labels: (row: Row, index: number) => string,
    grouped = false,
): void {
    const { left, width, rowHeight } = plan
    const bar = Math.max(rowHeight - (rowHeight >= 12 ? 3 : 1), 1)
    context.font = `11px ${ink.font}`
    context.textAlign = 'right'
    context.textBaseline = 'middle'
    context.fillStyle = ink.muted
    rows.forEach((row, at) => {
        const label = labels(row, at)
        if (label) context.fillText(label, left - 8, (at + 0.5) * rowHeight + (rowHeight < 12 ? 3 : 0))
    })
    context.save()
    context.beginPath()
    context.rect(left, 0, width, rows.length * rowHeight)
    context.clip()
    const pattern = hatch(context, ink, 4)
    const dash = dashes(context, ink)
    rows.forEach((row, at) => paintGround(context, plan, row, at * rowHeight, bar, ink, dash))
    if (shade && shade.columns.length && rows.length) {
        const small = document.createElement('canvas')
        small.width = shade.columns.length
        small.height = rows.length
        const brush = small.getContext('2d')
        const image = brush?.createImageData(small.width, small.height)
        if (brush && image) {
            raster(rows, shade, new Uint32Array(image.data.buffer))
            brush.putImageData(image, 0, 0)
            context.imageSmoothingEnabled = false
            context.drawImage(small, 0, 0, small.width, rows.length, left, 0, width, rows.length * rowHeight)
            context.fillStyle = ink.panel
            rows.forEach((_, at) => context.fillRect(left, at * rowHeight + bar, width, rowHeight - bar))
        }
    }
    rows.forEach((row, at) => paintStates(context, plan, row, at * rowHeight, bar, ink, pattern))
    context.restore()
    if (!grouped) return
    context.fillStyle = ink.muted
    rows.forEach((row, at) => {
        if (at && rows[at - 1]!.layer !== row.layer)
            context.fillRect(left - 44, at * rowHeight - 1, width + 44, 1)
    })
}

function extent(plan: Plan, one: Stretch): [number, number] {
    const from = Math.max(xOf(plan, one.first), plan.left)
    const to = Math.min(
        one.end === null ? plan.left + plan.width : xOf(plan, one.end),
        plan.left + plan.width,
    )
    return [from, Math.max(to - from, 0)]
}

/** Three pixels of a line and three of none: as a filling, which a row of any length costs nothing to draw with. */
function dashes(context: CanvasRenderingContext2D, ink: Ink): CanvasPattern | string {
    const tile = document.createElement('canvas')
    tile.width = 6
    tile.height = 1
    const brush = tile.getContext('2d')
    if (!brush) return ink.hatch
    brush.fillStyle = ink.hatch
    brush.fillRect(0, 0, 3, 1)
    return context.createPattern(tile, 'repeat') ?? ink.hatch
}

/** Pale, with a dashed line: what lived and was not measured yet. */
function paintGround(
    context: CanvasRenderingContext2D,
    plan: Plan,
    row: Row,
    y: number,
    bar: number,
    ink: Ink,
    dash: CanvasPattern | string,
): void {
    for (const one of row.stretches) {
        if (one.state <= PRUNED) continue
        const [x, width] = extent(plan, one)
        context.fillStyle = ink.faint
        context.fillRect(x, y, width, bar)
        context.globalAlpha = 0.6
        context.fillStyle = dash
        context.fillRect(x, Math.floor(y + bar / 2), width, 1)
        context.globalAlpha = 1
    }
}

function paintStates(
    context: CanvasRenderingContext2D,
    plan: Plan,
    row: Row,
    y: number,
    bar: number,
    ink: Ink,
    pattern: CanvasPattern | string,
): void {
    for (const one of row.stretches) {
        const [x, width] = extent(plan, one)
        if (!width) continue
        if (one.state === ABSENT) {
            context.fillStyle = ink.panel
            context.fillRect(x, y, width, bar)
        } else if (one.state === PRUNED) {
            context.fillStyle = pattern
            context.fillRect(x, y, width, bar)
        }
        if (one.state === REGROWN || one.state === ADDED) {
            context.strokeStyle = one.state === REGROWN ? REGROWN_INK : ADDED_INK
            context.lineWidth = bar < 6 ? 1 : 1.5
            context.strokeRect(x + 0.5, y + 0.5, Math.max(width - 1, 1), bar - 1)
            if (one.state === ADDED && bar >= 12)
                context.strokeRect(x + 2.5, y + 2.5, Math.max(width - 5, 1), bar - 5)
        }
        if (one.end !== null || one.state !== PRUNED) continue
        context.fillStyle = ink.muted
        context.fillRect(x, y, 1, bar)
    }
}

export function paintUprights(
    context: CanvasRenderingContext2D,
    plan: Plan,
    lines: Upright[],
    height: number,
    ink: Ink,
): void {
    for (const one of lines) {
        if (one.step < plan.first || one.step > plan.last) continue
        const x = Math.round(xOf(plan, one.step)) + 0.5
        context.strokeStyle = one.colour ? legible(one.colour, ink.dark) : ink.muted
        context.setLineDash(one.dashed ? [4, 3] : [])
        context.lineWidth = 1
        context.beginPath()
        context.moveTo(x, 0)
        context.lineTo(x, height)
        context.stroke()
    }
    context.setLineDash([])
}

export function paintAxis(context: CanvasRenderingContext2D, plan: Plan, lines: Upright[], ink: Ink): void {
    context.font = `11px ${ink.font}`
    context.textBaseline = 'alphabetic'
    context.fillStyle = ink.muted
    context.textAlign = 'right'
    context.fillText('step', plan.left - 8, 30)
    context.textAlign = 'center'
    for (const step of ticks(plan.first, plan.last, plan.width / 90)) {
        const x = Math.min(Math.max(xOf(plan, step), plan.left + 4), plan.left + plan.width - 16)
        context.fillText(whole(step), x, 30)
    }
    context.textAlign = 'left'
    let free = -Infinity
    for (const one of lines) {
        const x = xOf(plan, one.step)
        if (!one.label || x < plan.left - 1 || x > plan.left + plan.width || x < free) continue
        context.fillText(one.label, x + 3, 12)
        free = x + context.measureText(one.label).width + 12
    }
}

/** What the colours and patterns mean, for a picture that stands alone. */
export function paintKey(
    context: CanvasRenderingContext2D,
    left: number,
    key: { title: string; label: string; low: string; high: string; ramp: Ramp },
    ink: Ink,
): void {
    context.font = `11px ${ink.font}`
    context.textAlign = 'left'
    context.textBaseline = 'middle'
    let x = left
    const write = (text: string, room = 6): void => {
        context.fillStyle = ink.muted
        context.fillText(text, x, 10)
        x += context.measureText(text).width + room
    }
    write(key.title, 20)
    if (key.label) {
        write(`${key.label} ${key.low}`)
        for (let at = 0; at < 88; at++) {
            context.fillStyle = cssOf(key.ramp[Math.round((at / 87) * 255)]!)
            context.fillRect(x + at, 5, 1, 10)
        }
        x += 94
        write(key.high, 20)
    }
    const box = (paint: () => void, text: string): void => {
        paint()
        x += 20
        write(text, 20)
    }
    box(() => {
        context.fillStyle = hatch(context, ink, 4)
        context.fillRect(x, 4, 14, 12)
    }, 'pruned')
    for (const [colour, text] of [
        [REGROWN_INK, 'regrown'],
        [ADDED_INK, 'added'],
    ] as const)
        box(() => {
            context.strokeStyle = colour
            context.lineWidth = 1.5
            context.strokeRect(x + 1, 5, 12, 10)
        }, text)
    box(() => {
        context.strokeStyle = ink.hatch
        context.setLineDash([3, 3])
        context.beginPath()
        context.moveTo(x, 10.5)
        context.lineTo(x + 14, 10.5)
        context.stroke()
        context.setLineDash([])
    }, 'not measured')
}
