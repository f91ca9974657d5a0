/** `twill completion bash`: made from the command tree, so that it knows what there is. */
import type { Command } from 'commander'

export function bashCompletion(program: Command): string {
  const words = (command: Command): string[] => [
    ...command.commands.map((sub) => sub.name()),
    ...command.options.flatMap((option) => (option.long ? [option.long] : [])),
  ]
  const cases = program.commands.map((command) => `    ${command.name()}) words=${quote(words(command).join(' '))} ;;`)
  return `# bash completion of twill: source <(twill completion bash)
_twill() {
  local words
  case "\${COMP_WORDS[1]}" in
${cases.join('\n')}
    *) words= ;;
  esac
  [ "$COMP_CWORD" -eq 1 ] && words=${quote(words(program).join(' '))}
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _twill twill
`
}

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`
