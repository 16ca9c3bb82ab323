/** The product's colours; the same as views/palette.py (a test compares them). */

export const PHASES: Record<string, string> = {
    warmup: '#E69F00',
    analysis: '#56B4E9',
    pruning: '#D55E00',
    'fine-tuning': '#009E73',
    growth: '#F0E442',
    evaluation: '#CC79A7',
}
export const OTHER_PHASE = '#8C8C8C'
export const PRUNED = '#9A9A9A'
export const REGROWN = '#D55E00'
export const ADDED = '#0072B2'
export const MODELS: Record<string, string> = {
    baseline: '#4D4D4D',
    current: '#56B4E9',
    pruned: '#0072B2',
    control: '#E69F00',
}
export const MARKS: Record<string, string> = {
    pruned: '#B34700',
    regrown: '#00664B',
    added: ADDED,
    restored: '#8A1C5A',
    stable: '#6A3D9A',
}
export const CIVIDIS = [
    '#00224E',
    '#123570',
    '#3B496C',
    '#575D6D',
    '#707173',
    '#8A8678',
    '#A59C74',
    '#C3B369',
    '#E1CC55',
]

// Names come from outside, too: one like "constructor" has no colour, and not what every object inherits.
for (const named of [PHASES, MODELS, MARKS]) Object.setPrototypeOf(named, null)

export const phaseColour = (phase: string): string => PHASES[phase] ?? OTHER_PHASE
export const phaseLabel = (phase: string): string => (phase === 'warmup' ? 'warm-up' : phase || 'start')
