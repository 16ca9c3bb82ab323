/** Light, dark, or as the reader's system has it; remembered where the browser lets us. */
import { flushSync } from 'svelte'

type Choice = 'auto' | 'light' | 'dark'
const KEY = 'neural-plasticity-theme'
const CHOICES: Choice[] = ['auto', 'light', 'dark']

function remembered(): Choice {
    try {
        const found = localStorage.getItem(KEY) as Choice
        return CHOICES.includes(found) ? found : 'auto'
    } catch {
        return 'auto' // a sandboxed frame has no storage
    }
}

const system = typeof matchMedia === 'function' ? matchMedia('(prefers-color-scheme: dark)') : null

class Theme {
    choice = $state<Choice>(remembered())
    private systemDark = $state(system?.matches ?? false)
    private printing = $state(false) // paper is white
    readonly dark = $derived(
        !this.printing && (this.choice === 'auto' ? this.systemDark : this.choice === 'dark'),
    )

    constructor() {
        system?.addEventListener('change', (event) => (this.systemDark = event.matches))
        if (typeof addEventListener !== 'function') return
        addEventListener('beforeprint', () => flushSync(() => (this.printing = true)))
        addEventListener('afterprint', () => (this.printing = false))
    }

    /** A notebook may be dark on a light system. */
    hostIs(dark: boolean): void {
        this.systemDark = dark
    }

    next(): void {
        this.choice = CHOICES[(CHOICES.indexOf(this.choice) + 1) % CHOICES.length]!
        try {
            localStorage.setItem(KEY, this.choice)
        } catch {
            // not remembered, then
        }
    }
}

export const theme = new Theme()

/** The colours of style.css that a canvas needs. */
export const inks = (dark: boolean) =>
    dark
        ? {
              paper: '#1a1c1f',
              ink: '#ececec',
              muted: '#a4a8ae',
              line: '#2f3338',
              grid: '#26292d',
              accent: '#6cb2ff',
              bad: '#ff7b8a',
          }
        : {
              paper: '#ffffff',
              ink: '#1a1a1a',
              muted: '#5f5f5f',
              line: '#e2e2de',
              grid: '#efefeb',
              accent: '#0b5cad',
              bad: '#b00020',
          }

function channels(colour: string): [number, number, number] {
    return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)) as [number, number, number]
}
const linear = (channel: number) =>
    channel <= 10.31 ? channel / 3294.6 : ((channel / 255 + 0.055) / 1.055) ** 2.4
function luminance(colour: string): number {
    const [red, green, blue] = channels(colour).map(linear) as [number, number, number]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/** The palette is made for white paper: on dark, a colour is lightened until a thin line of it is seen. */
export function legible(colour: string, dark: boolean): string {
    if (!dark || !/^#[0-9a-f]{6}$/i.test(colour)) return colour
    let shown = colour
    for (let share = 0.1; luminance(shown) < 0.22 && share < 1; share += 0.1)
        shown =
            '#' +
            channels(colour)
                .map((one) =>
                    Math.round(one + (255 - one) * share)
                        .toString(16)
                        .padStart(2, '0'),
                )
                .join('')
    return shown
}
