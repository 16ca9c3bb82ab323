/** The theme's colours for canvases, which cannot use CSS variables, and a new reading whenever the theme changes. */

export interface Ink {
    panel: string
    ink: string
    muted: string
    line: string
    faint: string
    accent: string
    hatch: string
    bad: string
    font: string
    dark: boolean
}

const NAMES = ['panel', 'ink', 'muted', 'line', 'faint', 'accent', 'hatch', 'bad'] as const
/** What is printed, and saved as a picture, is on white whatever the screen has. */
export const PAPER: Ink = {
    panel: '#ffffff',
    ink: '#1a1a1a',
    muted: '#5f5f5f',
    line: '#e2e2de',
    faint: '#f0f0ec',
    accent: '#0b5cad',
    hatch: '#9a9a9a',
    bad: '#b00020',
    font: 'sans-serif',
    dark: false,
}

export function inkOf(element: Element): Ink {
    const style = getComputedStyle(element)
    const dark = element.closest('[data-theme="dark"]') !== null
    const read = { ...PAPER, font: style.fontFamily || PAPER.font, dark }
    for (const name of NAMES) read[name] = style.getPropertyValue(`--${name}`).trim() || PAPER[name]
    return read
}

export class Themed {
    ink = $state.raw<Ink>(PAPER)

    /** For `{@attach}`: reads the colours now, and again when a theme is chosen. */
    watch = (element: Element): (() => void) => {
        const read = () => (this.ink = inkOf(element))
        read()
        const observer = new MutationObserver(read)
        for (let one: Element | null = element; one; one = one.parentElement)
            if (one.classList.contains('npd') || one === document.documentElement)
                observer.observe(one, { attributes: true, attributeFilter: ['data-theme', 'class'] })
        return () => observer.disconnect()
    }
}

/** A canvas sized for the screen's pixels, cleared and in CSS pixels; null where there is no context. */
export function prepare(canvas: HTMLCanvasElement, width: number, height: number, scale = screenScale()) {
    const [w, h] = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))]
    if (canvas.width !== w) canvas.width = w
    if (canvas.height !== h) canvas.height = h
    const context = canvas.getContext('2d')
    if (!context) return null
    context.setTransform(scale, 0, 0, scale, 0, 0)
    context.clearRect(0, 0, width, height)
    return context
}
export const screenScale = (): number => Math.min(globalThis.devicePixelRatio || 1, 3)

const tiles = new Map<string, HTMLCanvasElement>()

/** One square of the pattern, made once for each look of it. */
function hatched(ink: Ink, side: number, line: number): HTMLCanvasElement | null {
    const look = [ink.faint, ink.hatch, side, line].join()
    const known = tiles.get(look)
    if (known) return known
    const tile = document.createElement('canvas')
    tile.width = tile.height = side
    const brush = tile.getContext('2d')
    if (!brush) return null
    brush.fillStyle = ink.faint
    brush.fillRect(0, 0, side, side)
    brush.strokeStyle = ink.hatch
    brush.lineWidth = line
    brush.beginPath()
    for (const shift of [-side, 0, side]) {
        brush.moveTo(shift, side)
        brush.lineTo(shift + side, 0)
    }
    brush.stroke()
    tiles.set(look, tile)
    return tile
}

/** Diagonal lines on a pale ground: what is pruned, whatever the colours. */
export function hatch(
    context: CanvasRenderingContext2D,
    ink: Ink,
    size = 5,
    line = 1,
): CanvasPattern | string {
    const scale = context.getTransform().a || 1
    const tile = hatched(ink, Math.round(size * scale), line * scale)
    if (!tile) return ink.faint
    const pattern = context.createPattern(tile, 'repeat')
    pattern?.setTransform(new DOMMatrix().scale(1 / scale))
    return pattern ?? ink.faint
}
