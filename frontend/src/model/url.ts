/** What the address holds: where one looks (cursor, head, panel, zoom), so that a link leads to the same sight. */
export interface Place {
    step: number | null
    head: { layer: number; head: number } | null
    panel: string | null
    zoom: [number, number] | null
}

const WHOLE = /^\d{1,15}$/
const whole = (text: string | null | undefined): number | null =>
    text && WHOLE.test(text) ? Number(text) : null

export function parsePlace(hash: string): Place {
    const said = new URLSearchParams(hash.replace(/^#/, ''))
    const [layer, head] = (said.get('head') ?? '').split('.').map(whole)
    const [first, last] = (said.get('zoom') ?? '').split('-').map(whole)
    const panel = said.get('panel')
    return {
        step: whole(said.get('step')),
        head: layer != null && head != null ? { layer, head } : null,
        panel: panel && /^[a-z-]{1,40}$/.test(panel) ? panel : null,
        zoom: first != null && last != null && last > first ? [first, last] : null,
    }
}

/** The hash of a place, without what is as it would be anyway; empty for the newest step of the whole run. */
export function placeHash({ step, head, panel, zoom }: Place): string {
    const parts: string[] = []
    if (panel) parts.push(`panel=${panel}`)
    if (step !== null) parts.push(`step=${Math.round(step)}`)
    if (head) parts.push(`head=${head.layer}.${head.head}`)
    if (zoom) parts.push(`zoom=${Math.round(zoom[0])}-${Math.round(zoom[1])}`)
    return parts.length ? `#${parts.join('&')}` : ''
}
