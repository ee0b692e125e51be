# bash completion for atoll: commands, and the names of what they work on.

_atoll_names() {
  local uri=()
  [[ -n $_atoll_uri ]] && uri=(-c "$_atoll_uri")
  atoll -q -r "${uri[@]}" "$@" --name 2>/dev/null
}

_atoll() {
  local cur=${COMP_WORDS[COMP_CWORD]} command= word i _atoll_uri=
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $word in
      -c | --connect) ((++i)); _atoll_uri=${COMP_WORDS[i]} ;;
      -*) ;;
      *) command=$word; break ;;
    esac
  done
  if [[ -z $command ]]; then
    COMPREPLY=($(compgen -W "-c -r -q --help --version stat doctor $(atoll help | sed -n 's/^    \([a-z][a-z-]*\) .*/\1/p')" -- "$cur"))
    return
  fi
  case $command in
    stat) COMPREPLY=($(compgen -W "-1 -l -f -p -s --help" -- "$cur")) ;;
    start) COMPREPLY=($(compgen -W "$(_atoll_names list --inactive)" -- "$cur")) ;;
    define | create | restore | net-define | net-create | pool-define | pool-create) COMPREPLY=($(compgen -f -- "$cur")) ;;
    net-*) COMPREPLY=($(compgen -W "$(_atoll_names net-list --all)" -- "$cur")) ;;
    pool-* | vol-list | vol-create*) COMPREPLY=($(compgen -W "$(_atoll_names pool-list --all)" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$(_atoll_names list --all)" -- "$cur")) ;;
  esac
}

complete -F _atoll atoll
