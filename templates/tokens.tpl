<%
# Tokens. Besides root, asset and query (see layout.tpl):
#   tokens   pairs: .id, .name, .user (None: of no user), .may (None: all that the user may), .indexes, .projects (none: all),
#            .created, .by, .expires (None: never), .used (None: never); and whether it is over
#   all      whether they are those of everybody          wrong    empty, or why they cannot be told
#   here, is_root (see admin-nav.tpl)
rebase("layout", title="All tokens" if all else "Your tokens")
day = lambda when: when.strftime("%d %b %Y")
%>
<h1>{{"All tokens" if all else "Your tokens"}}</h1>
% include("admin-nav")
<p class="text">A token stands in for a password in programs: it may do less, ends by itself, and can be revoked alone.</p>
<p><a href="{{root}}-/tokens/new">Make a token</a></p>
% if wrong:
<p class="note" role="alert"><bdi>{{wrong[:1].upper() + wrong[1:]}}</bdi></p>
% elif not tokens:
<p class="quiet">There are none.</p>
% end
<ul class="list rows">
% for token, over in tokens:
  <li>
    <b>{{token.name}}</b>{{" of " + (token.user or "no user") if all else ""}}
%   if over:
    <b class="mark">over</b>
%   end
    <span class="quiet">{{"all that its user may" if token.may is None else ", ".join(sorted(token.may))}}{{" · in " + ", ".join(token.indexes) if token.indexes else ""}}{{" · for " + ", ".join(token.projects) if token.projects else ""}}</span>
    <span class="quiet">made {{day(token.created)}}{{" by " + token.by if all else ""}} · {{"ends " + day(token.expires) if token.expires else "without an end"}} · {{"last used " + day(token.used) if token.used else "never used"}}</span>
    <span class="links"><a href="{{root}}-/tokens/{{token.id}}">Revoke<span class="hidden"> {{token.name}}</span></a></span>
  </li>
% end
</ul>
